"""Patterns of random words on top: every picture carries what another word's would."""

import numpy as np
from PIL import Image

from .own_copies import protected


def run(image: Image.Image, epsilon: float, seed: int) -> Image.Image:
    """Return ``image`` with patterns of this tool, from a key that ``seed`` draws."""
    return Image.fromarray(protected(np.array(image), seed, epsilon))
