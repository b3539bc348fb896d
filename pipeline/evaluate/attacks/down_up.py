"""Scaling down by a factor and up again."""

from PIL import Image


def run(image: Image.Image, factor: float, _seed: int) -> Image.Image:
    """Return ``image`` after both scalings, bicubic."""
    width, height = (max(1, round(side / factor)) for side in image.size)
    small = image.resize((width, height), Image.Resampling.BICUBIC)
    return small.resize(image.size, Image.Resampling.BICUBIC)
