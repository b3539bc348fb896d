"""Attacks on each published picture, at its own size: what platforms, crawlers and filters do."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from ...seeds import derive_seed
from ..pairs import ImageAttack, Pixels
from .catalogue import Attack

_CRAWL_SIZE, _CRAWL_QUALITY = 256, 95


def image_attack(attack: Attack, seed: int) -> ImageAttack:
    """Return the function that carries out an attack of the stage ``image``.

    It takes uint8 [H, W, 3] and the picture's position in the corpus, which together with ``seed``
    decides all that is random.
    """
    if attack.name == "noise":
        sigma = attack.value or 0.0
        return lambda pixels, row: _noise(pixels, sigma, derive_seed("noise", seed, row))
    edit, value = _EDITS[attack.name], attack.value or 0.0
    return lambda pixels, _row: np.array(edit(Image.fromarray(pixels), value))


def _jpeg(image: Image.Image, quality: float) -> Image.Image:
    """Baseline JPEG with halved colour resolution, the default of nearly every encoder."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=round(quality))
    return Image.open(buffer).convert("RGB")


def _crawl(image: Image.Image, _value: float) -> Image.Image:
    """What img2dataset stores by default: 256 px, white border, JPEG of quality 95."""
    shrinks = max(image.size) > _CRAWL_SIZE
    method = Image.Resampling.BOX if shrinks else Image.Resampling.LANCZOS
    size = (_CRAWL_SIZE, _CRAWL_SIZE)
    return _jpeg(ImageOps.pad(image, size, method=method, color="white"), _CRAWL_QUALITY)


def _down_up(image: Image.Image, factor: float) -> Image.Image:
    width, height = (max(1, round(side / factor)) for side in image.size)
    small = image.resize((width, height), Image.Resampling.BICUBIC)
    return small.resize(image.size, Image.Resampling.BICUBIC)


def _gray(image: Image.Image, _value: float) -> Image.Image:
    return image.convert("L").convert("RGB")


def _blur(image: Image.Image, sigma: float) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(sigma))


def _median(image: Image.Image, size: float) -> Image.Image:
    return image.filter(ImageFilter.MedianFilter(round(size)))


def _bits(image: Image.Image, bits: float) -> Image.Image:
    return ImageOps.posterize(image, round(bits))


def _noise(pixels: Pixels, sigma: float, seed: int) -> Pixels:
    noise = np.random.default_rng(seed).normal(0, sigma, pixels.shape)
    return np.asarray((pixels + noise).round().clip(0, 255), dtype=np.uint8)


_EDITS: dict[str, Callable[[Image.Image, float], Image.Image]] = {
    "jpeg": _jpeg,
    "crawl": _crawl,
    "down-up": _down_up,
    "gray": _gray,
    "blur": _blur,
    "median": _median,
    "bits": _bits,
}
