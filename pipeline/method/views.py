"""Random views of a published picture: what its readers may do to it before a model sees it.

Expectation over transformation (Athalye et al. 2018): each step of an optimisation sees views drawn
anew, so that what it finds outlives them on average.
"""

import random
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms import v2

from ..seeds import derive_seed
from .jpeg import recompressed

_CROP_AREA = (0.5, 1.0)
_SCALE = (0.5, 1.0)
_QUALITY = (50, 95)


@dataclass(frozen=True)
class Views:
    """Which transformations are drawn.

    Attributes:
        kinds: of ``config.VIEW_KINDS``: ``jpeg`` (quality 50 to 95, halved colour resolution),
            ``resize`` (both sides to half or more), ``crop`` (half of the area or more), ``flip``
            (left to right).
    """

    kinds: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.kinds)

    def __call__(self, pixels: Tensor, seed: int) -> Tensor:
        """Return one view of each image, differentiably.

        Args:
            pixels: float [B, 3, H, W], levels of 0..255.
            seed: decides everything random.

        Returns:
            float [B, 3, h, w]; with ``resize`` the sides shrink by one factor for all.
        """
        generator = random.Random(derive_seed(seed, "view"))
        if "jpeg" in self.kinds:
            qualities = [generator.randint(*_QUALITY) for _ in range(len(pixels))]
            pixels = recompressed(pixels, torch.tensor(qualities))
        if "resize" in self.kinds:
            scale = generator.uniform(*_SCALE)
            sides = [max(1, round(side * scale)) for side in pixels.shape[-2:]]
            pixels = F.interpolate(
                pixels, size=sides, mode="bicubic", antialias=True, align_corners=False
            )
        if "crop" in self.kinds:
            pixels = _cropped(pixels, generator.getrandbits(63))
        if "flip" in self.kinds:
            # Chosen one by one: an index would have to be copied to where the pixels are.
            pixels = torch.stack([i.flip(-1) if generator.random() < 0.5 else i for i in pixels])
        return pixels


def _cropped(pixels: Tensor, seed: int) -> Tensor:
    crop = v2.RandomResizedCrop(
        tuple(pixels.shape[-2:]), scale=_CROP_AREA, interpolation=v2.InterpolationMode.BICUBIC
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        # One call draws one crop, so a call for the batch would not do.
        return torch.stack([crop(image) for image in pixels])
