"""Pictures of more than 8 bits a channel: whether a file holds one, and its high bytes."""

import re
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

_BITS_PER_SAMPLE, _PHOTOMETRIC = 258, 262
_WHITE_IS_ZERO = 0
# Where boxes and headers stand: in front of the picture's data.
_HEADERS = 1 << 18
# Bits of each channel in AVIF and HEIF (ISO 23008-12, 6.5.6).
_CHANNEL_BITS = re.compile(rb"pixi\0{4}[\1-\4]([\x01-\x20])")
# The largest value that a PPM states, behind width and height.
_LARGEST = re.compile(rb"P[2356](?:(?:\s|#[^\n]*\n)+(\d+)){3}")
# Start of a JPEG 2000 code stream; the bits of the first component follow 42 bytes behind.
_STREAM, _COMPONENT = b"\xff\x4f\xff\x51", 42


def is_deep(image: Image.Image, data: bytes) -> bool:
    """Whether the file has more than 8 bits a channel, where Pillow may have read 8."""
    head = data[:_HEADERS]
    if image.format == "PNG":
        return data[24:25] == b"\x10"
    if image.format == "PPM":
        largest = _LARGEST.match(head)
        return largest is not None and int(largest[1][:9]) > 255
    if image.format == "JPEG2000":
        at = head.find(_STREAM)
        return at >= 0 and head[at + _COMPONENT] & 0x7F >= 8
    if image.format in ("AVIF", "HEIF"):
        stated = _CHANNEL_BITS.search(head)
        return stated is not None and stated[1] > b"\x08"
    return max(_tiff_bits(image), default=8) > 8


def _tiff_bits(image: Image.Image) -> tuple[int, ...]:
    tags = getattr(image, "tag_v2", None)
    return () if tags is None else tuple(tags.get(_BITS_PER_SAMPLE, ()))


def high_byte(image: Any) -> Image.Image:
    """Return the high byte of a grey image of mode I;16 or I, with its transparency.

    Pillow reads a TIFF of 12 bits as it stands, and does not turn one whose zero is white.
    """
    bits = max(_tiff_bits(image), default=16)
    values = np.asarray(image).astype(np.int64)
    if bits > 8 and getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        values = (1 << bits) - 1 - values
    flat = Image.fromarray((values >> (bits - 8)).clip(0, 255).astype(np.uint8))
    clear = image.info.get("transparency")
    if isinstance(image, PngImagePlugin.PngImageFile) and isinstance(clear, int):
        flat.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
    return flat
