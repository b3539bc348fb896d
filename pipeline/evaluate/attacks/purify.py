"""Purification: a small denoiser that learns from leaked pairs to take the perturbation off."""

from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...seeds import derive_seed
from ..pairs import Pairs, Pixels, blocks, matching, with_pixels
from ..victim import private_torch_state
from .averaging import leaked
from .inputs import Inputs

_WIDTH, _BATCH, _LR = 32, 16, 5e-3
_DILATIONS = (1, 2, 4, 2)


class Denoiser(nn.Module):
    """A residual network on 2 x 2 pixel blocks (as FFDNet, Zhang et al. 2018), zero at its start.

    Dilated layers let it see some 40 pixels around each one, and so the tint of a region.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(12, _WIDTH, 3, padding=1), nn.ReLU()]
        for d in _DILATIONS:
            layers.append(nn.Conv2d(_WIDTH, _WIDTH, 3, padding=d, dilation=d, bias=False))
            layers += [nn.BatchNorm2d(_WIDTH), nn.ReLU()]
        last = nn.Conv2d(_WIDTH, 12, 3, padding=1)
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
        self.layers = nn.Sequential(*layers, last)

    def forward(self, images: Tensor) -> Tensor:
        """Return the cleaned images, float [B, 3, H, W] around 0..1; sides of any length."""
        height, width = images.shape[-2:]
        even = F.pad(images, (0, width % 2, 0, height % 2), mode="replicate")
        # Scaled so that inputs and the change to be found are both of about unit size.
        change = F.pixel_shuffle(self.layers(F.pixel_unshuffle(even, 2) * 4 - 2), 2) / 8
        return images + change[..., :height, :width]


def run(pairs: Pairs, inputs: Inputs) -> Pairs:
    """Clean every picture with a denoiser trained on leaked pairs."""
    return purify(
        pairs,
        inputs.clean,
        inputs.path,
        count=round(inputs.value),
        seed=inputs.seed,
        device=inputs.device,
        threads=inputs.threads,
    )


def purify(
    pairs: Pairs,
    clean: Pairs,
    path: str,
    *,
    count: int,
    seed: int,
    device: torch.device,
    threads: int = 1,
    steps: int = 400,
) -> Pairs:
    """Clean every picture with a denoiser trained on ``count`` leaked pairs.

    Args:
        pairs: the published corpus.
        clean: the unprotected one.
        path: raw file for the new pixels.
        count: pairs that leaked.
        seed: decides which leak, and the training.
        device: where it is trained.
        threads: of tensor operations.
        steps: Adam steps on batches of 16 pairs.

    Raises:
        UsageError: fewer samples than that, or ``clean`` lacks samples of ``pairs``.
    """
    known = leaked(len(pairs), count, seed)
    before = clean.images()[matching(pairs, clean)[known]]
    with private_torch_state(threads, derive_seed("purify", seed)):
        model = _trained(pairs.images()[known], before, steps, device)
        return with_pixels(
            pairs, path, (_apply(model, found, device) for _, found in blocks(pairs))
        )


def _trained(after: Pixels, before: Pixels, steps: int, device: torch.device) -> Denoiser:
    model = Denoiser().to(device)
    optimizer = torch.optim.Adam(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LR, total_steps=steps)
    for _ in range(steps):
        index = torch.randint(len(after), (_BATCH,)).numpy()
        loss = F.mse_loss(model(_tensor(after[index], device)), _tensor(before[index], device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


@torch.no_grad()
def _apply(model: Denoiser, pixels: Pixels, device: torch.device) -> Pixels:
    parts = [model(_tensor(part, device)) for part in np.array_split(pixels, -(-len(pixels) // 32))]
    levels = (torch.cat(parts) * 255).round().clamp(0, 255).to(torch.uint8)
    return cast("Pixels", levels.permute(0, 2, 3, 1).cpu().numpy())


def _tensor(pixels: Pixels, device: torch.device) -> Tensor:
    return torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).float() / 255
