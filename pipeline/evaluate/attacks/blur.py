"""Gaussian blur."""

from PIL import Image, ImageFilter


def run(image: Image.Image, sigma: float, _seed: int) -> Image.Image:
    """Return ``image`` blurred by ``sigma`` pixels."""
    return image.filter(ImageFilter.GaussianBlur(sigma))
