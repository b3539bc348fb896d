"""Pictures of more than 8 bits a channel: only their low bits are lost, and that is told."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from pictures import png_chunk, saved
from PIL import Image

from unlearnable.pipeline.data.images import decode, encode

RNG = np.random.default_rng(0)
VALUES = RNG.integers(0, 256, (16, 20, 3), np.uint8)
GREY, ALPHA = VALUES[..., 0], np.where(VALUES[..., 1] > 99, 255, 0).astype(np.uint8)


def png16(values: np.ndarray, kind: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """Return a PNG of 16 bits; ``values`` are uint8 and become both bytes of a value."""
    deep = (values.astype(np.uint16) * 257).astype(">u2")
    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, kind, 0, 0, 0)
    raw = b"".join(b"\0" + row.tobytes() for row in deep)
    parts = [(b"IHDR", head), *chunks, (b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*part) for part in parts)


def tiff(data: bytes, bits: int, photometric: int) -> bytes:
    """Return a grey TIFF of 20 x 16 pixels."""
    tags = [(256, 20), (257, 16), (258, bits), (259, 1), (262, photometric), (273, 110),
            (277, 1), (279, len(data))]  # fmt: skip
    table = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + table + bytes(4) + data


def test_a_transparent_grey_of_16_bits_stays_transparent() -> None:
    key = int(GREY[3, 4])
    found = decode(png16(GREY, 0, (b"tRNS", struct.pack(">H", key * 257))))
    assert found.alpha is not None
    np.testing.assert_array_equal(found.alpha == 0, key == GREY)
    np.testing.assert_array_equal(found.values[..., 0], GREY)


def test_grey_of_16_bits_with_alpha_stays_grey() -> None:
    found = decode(png16(np.dstack([GREY, ALPHA]), 4))
    assert (found.grey, found.notes) == (True, {"sixteen_bit"})
    assert found.alpha is not None
    np.testing.assert_array_equal(found.alpha, ALPHA)
    data = encode(found.in_channels(found.values, "png"), "png")
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode == "LA"


@pytest.mark.parametrize(
    ("bits", "photometric", "turned"), [(12, 1, False), (16, 1, False), (16, 0, True)]
)
def test_grey_tiffs_keep_their_brightness(bits: int, photometric: int, turned: bool) -> None:
    wide = (255 - GREY if turned else GREY).astype(np.uint16)
    if bits == 16:
        data = (wide * 257).astype("<u2").tobytes()
    else:
        pairs = (wide * 16 + wide // 16).reshape(-1, 2).astype(np.uint32)
        joined = pairs[:, 0] << 12 | pairs[:, 1]
        data = b"".join(int(one).to_bytes(3, "big") for one in joined)
    found = decode(tiff(data, bits, photometric))
    assert "sixteen_bit" in found.notes
    np.testing.assert_array_equal(found.values[..., 0], GREY)


def ppm() -> bytes:
    return b"P6 # a comment\n20 16\n1023\n" + (VALUES.astype(">u2") * 4).tobytes()


def deep_jpeg2000() -> bytes:
    return saved(Image.fromarray(GREY.astype(np.uint16) * 257), "JPEG2000")


@pytest.mark.parametrize(
    ("data", "deep"),
    [
        (png16(VALUES, 2), True),
        (ppm(), True),
        (deep_jpeg2000(), True),
        (saved(Image.fromarray(VALUES), "JPEG2000"), False),
        (saved(Image.fromarray(VALUES), "AVIF"), False),
        (saved(Image.fromarray(VALUES), "PPM"), False),
        (saved(Image.fromarray(VALUES), "TIFF"), False),
    ],
    ids=["png", "ppm", "jp2", "jp2 of 8", "avif of 8", "ppm of 8", "tiff of 8"],
)  # fmt: skip
def test_more_than_8_bits_are_counted(data: bytes, deep: bool) -> None:
    assert ("sixteen_bit" in decode(data).notes) == deep


def test_a_heif_of_10_bits_is_counted() -> None:
    heif = pytest.importorskip("pillow_heif")
    deep = (VALUES.astype(np.uint16) * 257).tobytes()
    buffer = io.BytesIO()
    heif.from_bytes(mode="RGB;16", size=(20, 16), data=deep).save(buffer, quality=95)
    assert "sixteen_bit" in decode(buffer.getvalue()).notes
