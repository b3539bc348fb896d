"""Baseline JPEG with halved colour resolution, the default of nearly every encoder."""

import io

from PIL import Image


def run(image: Image.Image, quality: float, _seed: int) -> Image.Image:
    """Return ``image`` after JPEG of that quality."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=round(quality))
    return Image.open(buffer).convert("RGB")
