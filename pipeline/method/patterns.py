"""The designed code: a region of the image for each trigger position, a pattern for each word.

What a network learns first is what it reads most easily. A pattern is a colour cast times a
grating: the cast is read on drawings, the grating stands out on photographs, whose own colours
drown a cast but which hold little power at so short a period. All of a grating's power lies at one
frequency and its harmonics, so that scaling a picture takes less of it than of random cells.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .pixels import PixelBatch

# The corners of the colour cube: the only casts that use the whole budget in every channel.
CASTS = torch.tensor(
    [[r, g, b] for r in (1, -1) for g in (1, -1) for b in (1, -1)], dtype=torch.int8
)
# A grating repeats every TILE cells; CELLS of them span an image's shorter side, so that a model
# sees one grating whatever the size of the file it was resized from.
TILE = 4
CELLS = 64
# Inverted shares of a grating's period that fit tries.
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


def gratings(inverted: float) -> Tensor:
    """Square waves of one period TILE: upright, level and both diagonals, each in two phases.

    No two are each other's inverse at half a period, so no two casts with gratings are alike.

    Args:
        inverted: share of the period that is -1, in quarters.

    Returns:
        int8 [8, TILE, TILE] of +-1.
    """
    row, column = torch.arange(TILE)[:, None], torch.arange(TILE)[None, :]
    directions = torch.broadcast_tensors(column, row, column + row, column - row)
    phases = torch.stack([(phase + shift) % TILE for phase in directions for shift in (0, 1)])
    return torch.where(phases < TILE - round(inverted * TILE), 1, -1).to(torch.int8)


@dataclass(frozen=True)
class PatternBook:
    """Patterns owned by trigger words.

    Attributes:
        tiles: int8 [coded positions, V, 3, TILE, TILE] of +-1: the sign of the change of each cell.
    """

    tiles: Tensor

    @staticmethod
    def design(positions: int, words: int, inverted: float, seed: int) -> "PatternBook":
        """Give the words of each position the eight casts in turn, each with a grating.

        Args:
            positions: trigger positions that own a region.
            words: words of each (V); up to 64 have patterns of their own, where there are gratings.
            inverted: share of a grating's period in which the cast changes sign, in quarters; 0
                leaves plain casts.
            seed: of which grating goes with which cast.
        """
        generator = torch.Generator().manual_seed(seed)
        found = gratings(inverted)
        order = torch.stack(
            [torch.randperm(len(found), generator=generator) for _ in range(positions)]
        )
        word = torch.arange(words)
        # Words that share a cast follow each other in the order of gratings.
        turn = (word + word // len(CASTS)) % len(found)
        casts = CASTS[word % len(CASTS)].view(1, words, 3, 1, 1)
        return PatternBook(casts * found[order[:, turn]].unsqueeze(2))

    def compose(self, choice: Tensor, height: int, width: int) -> Tensor:
        """Lay out the patterns of the chosen words.

        Args:
            choice: int64 [B, k], word index at each position.
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


def lay(pixels: PixelBatch, code: PatternBook, choice: Tensor, epsilon: int) -> list[Tensor]:
    """Lay the patterns of chosen words over images at full amplitude.

    Args:
        pixels: images; their perturbations are set.
        code: patterns of the words.
        choice: int64 [B, k], word index at each position.
        epsilon: amplitude, 8-bit levels.

    Returns:
        the signs, int8 [b, 3, H, W] for each image size.
    """
    signs = []
    for group, members in enumerate(pixels.members):
        images = pixels.images[group]
        found = code.compose(choice[members], *images.shape[-2:])
        # In the images' own order in memory, as every step reads the two side by side.
        found = torch.empty_like(images, dtype=torch.int8).copy_(found)
        signs.append(found)
        pixels.set_delta(group, found * epsilon)
    return signs
