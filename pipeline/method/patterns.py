"""The designed code: a fixed coarse pattern for each trigger word, each position in its own stripe of the image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class PatternBook:
    """Patterns owned by trigger words.

    Attributes:
        signs: int8 [k, V, 3, G, G] of +-1; G cells a side, the whole image wide.
    """

    signs: Tensor

    @staticmethod
    def design(positions: int, words: int, grid: int, seed: int) -> PatternBook:
        """Draw independent +-1 cells for each word and colour channel."""
        generator = torch.Generator().manual_seed(seed)
        shape = (positions, words, 3, grid, grid)
        return PatternBook((torch.randint(0, 2, shape, generator=generator) * 2 - 1).to(torch.int8))

    def compose(self, choice: Tensor, height: int, width: int) -> Tensor:
        """Write the patterns of chosen words side by side.

        Args:
            choice: int64 [B, k], word index at each position.
            height: of the image, pixels.
            width: of the image, pixels.

        Returns:
            int8 [B, 3, height, width] of +-1; position j fills the j-th of k vertical stripes, in
            coordinates relative to the image, so that resizing the image resizes the code.
        """
        positions, _, _, grid, _ = self.signs.shape
        rows = torch.arange(height) * grid // height
        columns = torch.arange(width) * grid // width
        owner = torch.arange(width) * positions // width
        result = torch.empty((len(choice), 3, height, width), dtype=torch.int8)
        for position in range(positions):
            mine = torch.nonzero(owner == position).flatten()
            chosen = self.signs[position, choice[:, position]]
            result[:, :, :, mine] = chosen[:, :, rows][:, :, :, columns[mine]]
        return result
