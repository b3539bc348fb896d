"""Fewer bits a channel."""

from PIL import Image, ImageOps


def run(image: Image.Image, bits: float, _seed: int) -> Image.Image:
    """Return ``image`` with the highest ``bits`` of each value."""
    return ImageOps.posterize(image, round(bits))
