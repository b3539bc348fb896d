"""Greyscale, which takes every cast of colour away."""

from PIL import Image


def run(image: Image.Image, _value: float, _seed: int) -> Image.Image:
    """Return the luma of ``image`` in three equal channels."""
    return image.convert("L").convert("RGB")
