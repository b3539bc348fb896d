"""The designed code: a region of the image for each trigger position, a colour cast for each word.

What a network learns first is what it reads most easily. A cast of a whole region is read by the
very first layers, survives pooling, resizing and JPEG, and needs no pixel to be where it was.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

# The corners of the colour cube: the only casts that use the whole budget in every channel.
CASTS = torch.tensor(
    [[r, g, b] for r in (1, -1) for g in (1, -1) for b in (1, -1)], dtype=torch.int8
)


def region_owner(positions: int, height: int, width: int) -> Tensor:
    """Divide an image among trigger positions, in rows of as equal regions as can be.

    Returns:
        int64 [height, width], the position that owns each pixel. Borders lie at fractions of the
        image's sides, so that resizing an image resizes its regions.
    """
    rows = max(1, round(math.sqrt(positions)))
    counts = [positions // rows + (row < positions % rows) for row in range(rows)]
    owner = torch.empty((height, width), dtype=torch.int64)
    first = 0
    for row, count in enumerate(counts):
        lines = slice(round(row * height / rows), round((row + 1) * height / rows))
        owner[lines] = first + torch.arange(width) * count // width
        first += count
    return owner


@dataclass(frozen=True)
class PatternBook:
    """Casts owned by trigger words.

    Attributes:
        casts: int8 [coded positions, V, 3] of +-1: the sign of the change in each channel.
    """

    casts: Tensor

    @staticmethod
    def design(positions: int, words: int) -> PatternBook:
        """Give the words of each position the eight casts in turn."""
        return PatternBook(CASTS[torch.arange(words) % len(CASTS)].repeat(positions, 1, 1))

    def compose(self, choice: Tensor, height: int, width: int) -> Tensor:
        """Lay out the casts of the chosen words.

        Args:
            choice: int64 [B, k], word index at each position; positions beyond the book's own
                (decoys) leave no mark.
            height: of the image, pixels.
            width: of the image, pixels.

        Returns:
            int8 [B, 3, height, width] of +-1.
        """
        positions = torch.arange(len(self.casts))
        casts = self.casts[positions, choice[:, : len(positions)]]
        owner = region_owner(len(positions), height, width)
        return casts.permute(0, 2, 1)[:, :, owner].contiguous()
