"""Pictures protected by someone else with this public tool and a key of his own."""

import hashlib

import numpy as np
import torch

from ...method.patterns import PatternBook
from ...method.perceptual import bound_map, ground_of
from ...method.strength import STRENGTHS, Strength
from ...seeds import derive_seed
from ..pairs import Pixels

STRENGTH: Strength = STRENGTHS["strong"]
"""What the tool does where nothing else is asked for."""
_POSITIONS, _WORDS = 3, 64


def protected(pixels: Pixels, seed: int, epsilon: float) -> Pixels:
    """Lay patterns of random words over a picture, uint8 [H, W, 3], from the key ``seed``."""
    key = hashlib.sha256(f"own key {seed}".encode()).digest()
    book = PatternBook(key, STRENGTH, _POSITIONS, _WORDS)
    generator = torch.Generator().manual_seed(derive_seed("own words", seed))
    choice = torch.randint(_WORDS, (1, _POSITIONS), generator=generator)
    image = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)
    bound = bound_map(image[None], round(epsilon), STRENGTH.floor)
    digest = hashlib.sha256(pixels.tobytes()).hexdigest()
    change = book.compose(choice, [digest], [ground_of(image)], bound)[0].permute(1, 2, 0)
    return np.asarray((pixels + change.to(torch.int16).numpy()).clip(0, 255), dtype=np.uint8)
