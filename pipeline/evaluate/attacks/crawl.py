"""What img2dataset stores by default: 256 px, white border, JPEG of quality 95."""

from PIL import Image, ImageOps

from . import jpeg

_SIZE, _QUALITY = (256, 256), 95


def run(image: Image.Image, _value: float, seed: int) -> Image.Image:
    """Return ``image`` as a crawler stores it."""
    shrinks = max(image.size) > max(_SIZE)
    method = Image.Resampling.BOX if shrinks else Image.Resampling.LANCZOS
    return jpeg.run(ImageOps.pad(image, _SIZE, method=method, color="white"), _QUALITY, seed)
