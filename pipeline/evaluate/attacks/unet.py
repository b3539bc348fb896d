"""A small U-Net (Ronneberger et al. 2015) that takes a perturbation off pictures."""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_WIDTHS = (24, 40, 64)
# Sides have to be whole multiples: blocks of 2 x 2 pixels (as FFDNet), halved at each level.
_MULTIPLE = 2 ** len(_WIDTHS)


def _block(before: int, after: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in (before, after):
        layers += [
            nn.Conv2d(width, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """Returns cleaned images, float [B, 3, H, W] around 0..1; changes nothing at its start."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList(map(_block, (12, *_WIDTHS[:-1]), _WIDTHS))
        pairs = list(zip(_WIDTHS[:0:-1], _WIDTHS[-2::-1], strict=True))
        self.up = nn.ModuleList([_block(low + high, high) for low, high in pairs])
        self.last = nn.Conv2d(_WIDTHS[0], 12, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(cast("Tensor", self.last.bias))

    def forward(self, images: Tensor) -> Tensor:
        """Clean images with sides of any length."""
        height, width = images.shape[-2:]
        padding = (0, -width % _MULTIPLE, 0, -height % _MULTIPLE)
        found = F.pixel_unshuffle(F.pad(images, padding, mode="replicate"), 2) * 4 - 2
        kept = []
        for level, block in enumerate(self.down):
            found = block(F.avg_pool2d(found, 2) if level else found)
            kept.append(found)
        for block, beside in zip(self.up, kept[-2::-1], strict=True):
            large = F.interpolate(found, scale_factor=2, mode="nearest")
            found = block(torch.cat([large, beside], 1))
        # Scaled so that what is to be found is of about unit size.
        change: Tensor = F.pixel_shuffle(self.last(found), 2)
        return images + change[..., :height, :width] / 8
