"""The public tool against itself: a denoiser learns from pictures that its user protected.

Someone lays the tool's patterns over clean pictures of his own, from keys of his own, trains a
U-Net to take them off again and applies it to the published pictures.
"""

from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

from ...seeds import derive_seed
from ..pairs import Pixels
from ..victim import private_torch_state
from .inputs import Inputs
from .own_copies import protected
from .unet import UNet

_EPSILON = 8
_PICTURES, _SIDE, _CROP = 1000, 256, 96
_BATCH, _LR = 8, 4e-3


def run(inputs: Inputs) -> Callable[[Image.Image, int], Image.Image]:
    """Train on the attacker's own pictures, as many steps as the argument says."""
    with private_torch_state(inputs.threads, derive_seed("tool", inputs.seed)):
        model = _trained(list(_own(inputs.own())), inputs)

    @torch.no_grad()
    def cleaned(image: Image.Image, _seed: int) -> Image.Image:
        found = model(_tensor(np.array(image)[None], inputs.device))[0]
        levels = (found * 255).round().clamp(0, 255).to(torch.uint8)
        return Image.fromarray(levels.permute(1, 2, 0).cpu().numpy())

    return cleaned


def _own(pictures: Iterator[Image.Image]) -> Iterator[Pixels]:
    for image in islice(pictures, _PICTURES):
        scale = max(1.0, min(image.size) / _SIDE)
        yield np.array(ImageOps.scale(image, 1 / scale)) if scale > 1 else np.array(image)


def _trained(own: list[Pixels], inputs: Inputs) -> UNet:
    steps = round(inputs.value)
    model = UNet().to(inputs.device)
    optimizer = torch.optim.Adam(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LR, total_steps=steps)
    rng = np.random.default_rng(derive_seed("tool", inputs.seed))
    side = min(_CROP, *(length for pixels in own for length in pixels.shape[:2]))
    for step in range(steps):
        pairs = [_pair(own, side, derive_seed("tool", step, n), rng) for n in range(_BATCH)]
        before, after = (
            _tensor(np.stack(part), inputs.device) for part in zip(*pairs, strict=True)
        )
        loss = F.l1_loss(model(after), before)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def _pair(
    own: list[Pixels], side: int, key: int, rng: np.random.Generator
) -> tuple[Pixels, Pixels]:
    """Return a crop of a clean picture and of its protected copy."""
    pixels = own[rng.integers(len(own))]
    copy = protected(pixels, key, _EPSILON)
    top, left = (int(rng.integers(length - side + 1)) for length in pixels.shape[:2])
    place = (slice(top, top + side), slice(left, left + side))
    return pixels[place], copy[place]


def _tensor(pixels: Pixels, device: torch.device) -> Tensor:
    return torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).float() / 255
