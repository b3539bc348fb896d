"""Pictures protected by someone else with this public tool and a key of his own."""

import numpy as np
import torch

from ...method.patterns import PatternBook
from ...seeds import derive_seed
from ..pairs import Pixels

_POSITIONS, _WORDS, _INVERTED = 3, 64, 0.5


def protected(pixels: Pixels, seed: int, epsilon: float) -> Pixels:
    """Lay patterns of random words over a picture, uint8 [H, W, 3], from the key ``seed``."""
    book = PatternBook.design(_POSITIONS, _WORDS, _INVERTED, derive_seed("own key", seed))
    generator = torch.Generator().manual_seed(derive_seed("own words", seed))
    choice = torch.randint(_WORDS, (1, _POSITIONS), generator=generator)
    signs = book.compose(choice, *pixels.shape[:2])[0].permute(1, 2, 0).numpy()
    return np.asarray((pixels + epsilon * signs).round().clip(0, 255), dtype=np.uint8)
