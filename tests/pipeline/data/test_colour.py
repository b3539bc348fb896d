"""Colours, greys and transparency of pictures of every mode, as they are read and written again."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from pictures import cmyk_profile, grey_profile, p3_profile, png_with, saved
from PIL import Image, ImageCms

from unlearnable.pipeline.data.images import decode, encode
from unlearnable.pipeline.data.metadata import published_metadata
from unlearnable.pipeline.errors import SampleError

RED = np.full((16, 16, 3), (200, 60, 60), np.uint8)


@pytest.mark.parametrize("fmt", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF"])
def test_an_rgb_profile_stays_with_the_file(fmt: str) -> None:
    found = decode(saved(Image.fromarray(RED), fmt, icc_profile=p3_profile()))
    assert found.kept.icc == p3_profile()
    target = fmt.lower() if fmt != "TIFF" else "png"
    kept, _ = published_metadata(found.kept, target)
    again = decode(encode(found.values, target, None, kept))
    assert again.kept.icc == p3_profile()


@pytest.mark.parametrize(
    "chunk",
    [
        (b"cICP", b"\x0c\x0d\0\1"),
        (b"gAMA", struct.pack(">I", 100_000)),
        (b"cHRM", struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)),
        (b"sRGB", b"\0"),
    ],
    ids=lambda chunk: chunk[0].decode(),
)
def test_colour_chunks_stay_and_where_they_cannot_the_sample_is_refused(chunk) -> None:
    found = decode(png_with(RED, chunk))
    assert chunk in found.kept.chunks
    kept, _ = published_metadata(found.kept, "png")
    assert decode(encode(found.values, "png", None, kept)).kept.colour == found.kept.colour
    if chunk[0] == b"sRGB":
        assert published_metadata(found.kept, "jpeg")[0].chunks == ()
        return
    with pytest.raises(SampleError, match="no place in jpeg") as caught:
        published_metadata(found.kept, "jpeg")
    assert caught.value.reason == "colour_unsupported"


def test_the_profile_of_a_jpeg_2000_is_read() -> None:
    data = saved(Image.fromarray(RED), "JPEG2000")
    at = data.index(b"colr")
    box = struct.pack(">I", 11 + len(p3_profile())) + b"colr\2\0\0" + p3_profile()
    grown = data[: at - 4] + box + data[at + 11 :]
    head = grown.index(b"jp2h") - 4
    size = int.from_bytes(data[head : head + 4], "big") + len(box) - 15
    found = decode(grown[:head] + struct.pack(">I", size) + grown[head + 4 :])
    assert found.kept.icc == p3_profile()


def test_primaries_by_number_are_refused_where_they_would_be_lost() -> None:
    data = saved(Image.fromarray(RED), "AVIF")
    at = data.index(b"colrnclx")
    p3 = data[: at + 8] + b"\0\x0c" + data[at + 10 :]
    curves = (data[: at + 10] + b"\0" + bytes([curve]) + data[at + 12 :] for curve in (8, 16, 18))
    for odd in (p3, *curves):
        with pytest.raises(SampleError) as caught:
            decode(odd)
        assert caught.value.reason == "colour_unsupported"
    assert decode(data[: at + 10] + b"\0\1" + data[at + 12 :]).kept.icc == b""
    assert decode(data).kept.icc == b""


def test_cmyk_is_converted_by_its_own_profile() -> None:
    """The profile's inks are swapped: only who reads it gets the colours right."""
    values = np.zeros((8, 8, 4), np.uint8)
    values[..., 0] = 255
    image = Image.fromarray(values, "CMYK")
    with_profile = decode(saved(image, "TIFF", icc_profile=cmyk_profile()))
    without = decode(saved(image, "TIFF"))
    assert "profile_converted" in with_profile.notes
    assert "cmyk_without_profile" in without.notes
    assert with_profile.kept.icc == b""
    assert without.pixels[0, 0].tolist() == [0, 255, 255]
    assert with_profile.pixels[0, 0].tolist() != without.pixels[0, 0].tolist()


@pytest.mark.parametrize("fmt", ["JPEG", "TIFF"])
def test_cmyk_without_a_profile_is_counted(fmt: str) -> None:
    image = Image.fromarray(RED).convert("CMYK")
    found = decode(saved(image, fmt))
    assert "cmyk_without_profile" in found.notes
    assert np.abs(found.pixels.astype(int) - RED).max() <= 8


def test_lab_is_converted() -> None:
    lab = ImageCms.createProfile("LAB")
    srgb = ImageCms.createProfile("sRGB")
    image = ImageCms.profileToProfile(Image.fromarray(RED), srgb, lab, outputMode="LAB")
    found = decode(saved(image, "TIFF"))
    assert np.abs(found.pixels.astype(int) - RED).max() <= 4


def test_grey_is_converted_by_its_own_profile_and_stays_grey() -> None:
    image = Image.fromarray(np.full((8, 8), 100, np.uint8))
    found = decode(saved(image, "PNG", icc_profile=grey_profile(1.0)))
    assert found.grey
    assert found.kept.icc == b""
    # A linear value of 100 is 168 in sRGB.
    assert found.pixels[0, 0].tolist() == pytest.approx([168] * 3, abs=2)
    assert len(set(found.pixels[0, 0].tolist())) == 1


@pytest.mark.parametrize("mode", ["1", "L", "LA", "I;16"])
def test_grey_files_stay_one_channel(mode: str) -> None:
    if mode == "I;16":
        image = Image.fromarray(np.linspace(0, 65535, 64, dtype=np.uint16).reshape(8, 8))
    else:
        image = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) * 4).convert(mode)
    found = decode(saved(image, "PNG"))
    assert found.grey
    assert ("sixteen_bit" in found.notes) == (mode == "I;16")
    parts = found.values[..., 0]
    if mode == "LA":
        assert found.alpha is not None
        parts = np.dstack([parts, found.alpha])
    with Image.open(io.BytesIO(encode(parts, "png"))) as again:
        assert again.mode == ("LA" if mode == "LA" else "L")


def test_sixteen_bit_colour_is_counted() -> None:
    raw = b"".join(b"\0" + bytes([200, 1, 60, 2, 60, 3]) * 4 for _ in range(4))
    head = struct.pack(">IIBBBBB", 4, 4, 16, 2, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(raw)), (b"IEND", b""))
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in parts
    )
    found = decode(data)
    assert "sixteen_bit" in found.notes
    assert found.pixels[0, 0].tolist() == [200, 60, 60]


@pytest.mark.parametrize("fmt", ["png", "webp"])
@pytest.mark.parametrize("turned", [1, 6])
def test_alpha_is_kept_with_what_lies_beneath(fmt: str, turned: int) -> None:
    rng = np.random.default_rng(1)
    values, alpha = rng.integers(0, 256, (6, 9, 3), np.uint8), np.zeros((6, 9), np.uint8)
    alpha[:, 4:], alpha[0, 0] = 255, 128
    exif = Image.Exif()
    exif[0x0112] = turned
    data = saved(Image.fromarray(np.dstack([values, alpha])), "PNG", exif=exif)
    found = decode(data)
    if turned == 6:
        values, alpha = np.rot90(values, -1), np.rot90(alpha, -1)
    assert found.alpha is not None
    np.testing.assert_array_equal(found.values, values)
    np.testing.assert_array_equal(found.alpha, alpha)
    again = decode(encode(np.dstack([found.values, found.alpha]), fmt))
    np.testing.assert_array_equal(again.values, values)
    np.testing.assert_array_equal(again.alpha, alpha)
    assert "alpha_flattened" in found.notes_in("jpeg")
    assert "alpha_flattened" not in found.notes_in("png")


def test_a_profile_that_does_not_fit_is_dropped_and_told() -> None:
    found = decode(saved(Image.fromarray(RED), "PNG", icc_profile=cmyk_profile()))
    assert found.kept.icc == b""
    assert "profile_unusable" in found.notes
