"""The designed code: a region of the image for each trigger position, a pattern for each word.

What a network learns first is what it reads most easily. A pattern is a colour cast times a
texture: the cast is read on drawings, the texture stands out on photographs, whose own colours
drown a cast but which hold little power at so short a period.
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
# A texture repeats every TILE cells; CELLS of them span an image's shorter side, so that a model
# sees one texture whatever the size of the file it was resized from.
TILE = 4
CELLS = 64
# Shares of inverted cells that fit tries.
TEXTURES = (0.0, 0.5)


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
    """Patterns owned by trigger words.

    Attributes:
        tiles: int8 [coded positions, V, 3, TILE, TILE] of +-1: the sign of the change of each cell.
    """

    tiles: Tensor

    @staticmethod
    def design(positions: int, words: int, inverted: float, seed: int) -> PatternBook:
        """Give the words of each position the eight casts in turn, each with a texture of its own.

        Args:
            positions: trigger positions that own a region.
            words: words of each (V).
            inverted: share of a tile's cells in which the cast changes sign; 0 leaves plain casts.
            seed: of the textures.
        """
        generator = torch.Generator().manual_seed(seed)
        count = round(inverted * TILE * TILE)
        textures = torch.ones(positions, words, TILE * TILE, dtype=torch.int8)
        order = torch.rand(textures.shape, generator=generator).argsort(-1)
        textures.scatter_(-1, order[..., :count], -1)
        casts = CASTS[torch.arange(words) % len(CASTS)].view(1, words, 3, 1, 1)
        return PatternBook(casts * textures.view(positions, words, 1, TILE, TILE))

    def compose(self, choice: Tensor, height: int, width: int) -> Tensor:
        """Lay out the patterns of the chosen words.

        Args:
            choice: int64 [B, k], word index at each position; positions beyond the book's own
                (decoys) leave no mark.
            height: of the image, pixels.
            width: of the image, pixels.

        Returns:
            int8 [B, 3, height, width] of +-1.
        """
        positions = torch.arange(len(self.tiles))
        tiles = self.tiles[positions, choice[:, : len(positions)]].transpose(1, 2)
        cell = max(1.0, min(height, width) / CELLS)
        rows, columns = (
            (torch.arange(side) / cell).long() % tiles.shape[-1] for side in (height, width)
        )
        owner = region_owner(len(positions), height, width)
        return tiles[:, :, owner, rows[:, None], columns[None, :]].contiguous()
