"""Gaussian noise."""

import numpy as np
from PIL import Image


def run(image: Image.Image, sigma: float, seed: int) -> Image.Image:
    """Return ``image`` with noise of ``sigma`` levels, which ``seed`` decides."""
    pixels = np.asarray(image)
    noise = np.random.default_rng(seed).normal(0, sigma, pixels.shape)
    return Image.fromarray((pixels + noise).round().clip(0, 255).astype(np.uint8))
