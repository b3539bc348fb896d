"""Colours, greys and transparency of pictures of every mode, as they are read and written again."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from pictures import cmyk_profile, grey_profile, p3_profile, png_with, saved
from PIL import Image, ImageCms

from unlearnable.pipeline.data.images import Decoded, decode, encode
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


CHUNKS = [
    (b"cICP", b"\x0c\x0d\0\1"),
    (b"gAMA", struct.pack(">I", 100_000)),
    (b"cHRM", struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)),
    (b"sRGB", b"\0"),
]


@pytest.mark.parametrize("chunk", CHUNKS, ids=lambda chunk: chunk[0].decode())
def test_colour_chunks_stay_and_become_a_profile_where_the_format_has_none(chunk) -> None:
    found = decode(png_with(RED, chunk))
    assert chunk in found.kept.chunks
    kept, _ = published_metadata(found.kept, "png")
    assert decode(encode(found.values, "png", None, kept)).kept.colour == found.kept.colour
    shown = {
        b"cICP": to_srgb(RED[0, 0], P3),
        b"gAMA": to_srgb(RED[0, 0], SRGB, 1.0),
        b"cHRM": to_srgb(RED[0, 0], P3),
        b"sRGB": RED[0, 0],
    }[chunk[0]]
    for fmt in ("jpeg", "webp", "avif"):
        kept, _ = published_metadata(found.kept, fmt)
        again = decode(encode(found.values, fmt, None, kept))
        assert np.abs(as_shown(again)[8, 8] - shown).max() <= 3


def test_a_grey_png_with_a_gamma_keeps_its_format_or_is_refused() -> None:
    found = decode(png_with(RED[..., 0], (b"gAMA", struct.pack(">I", 100_000))))
    assert found.grey
    assert published_metadata(found.kept, "png", grey=True)[0].chunks == found.kept.chunks
    with pytest.raises(SampleError, match="grey PNG have no place in jpeg") as caught:
        published_metadata(found.kept, "jpeg", grey=True)
    assert caught.value.reason == "colour_unsupported"


SRGB = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
P3 = ((0.68, 0.32), (0.265, 0.69), (0.15, 0.06))


def to_srgb(value: object, primaries: tuple[tuple[float, float], ...], gamma: float = 0) -> object:
    """What sRGB values a colour under D65 has, by the definitions of the two spaces.

    Args:
        value: [3], stored levels.
        primaries: x and y of red, green and blue.
        gamma: of the stored values; 0 for sRGB's curve.
    """

    def matrix(xy: tuple[tuple[float, float], ...]) -> np.ndarray:
        columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in xy]).T
        return columns * np.linalg.solve(columns, [0.3127 / 0.3290, 1, 0.3583 / 0.3290])

    stored = np.asarray(value) / 255
    curve = np.where(stored <= 0.04045, stored / 12.92, ((stored + 0.055) / 1.055) ** 2.4)
    linear = np.linalg.solve(matrix(SRGB), matrix(primaries) @ (stored**gamma if gamma else curve))
    linear = linear.clip(0, 1)
    return 255 * np.where(linear < 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def as_shown(found: Decoded) -> np.ndarray:
    image = Image.fromarray(found.pixels)
    if found.kept.icc:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(found.kept.icc))
        converted = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"))
        assert converted is not None
        image = converted
    return np.asarray(image).astype(int)


def test_the_profile_of_a_jpeg_2000_is_read() -> None:
    data = saved(Image.fromarray(RED), "JPEG2000")
    at = data.index(b"colr")
    box = struct.pack(">I", 11 + len(p3_profile())) + b"colr\2\0\0" + p3_profile()
    grown = data[: at - 4] + box + data[at + 11 :]
    head = grown.index(b"jp2h") - 4
    size = int.from_bytes(data[head : head + 4], "big") + len(box) - 15
    found = decode(grown[:head] + struct.pack(">I", size) + grown[head + 4 :])
    assert found.kept.icc == p3_profile()


def numbered(primaries: int, curve: int) -> bytes:
    """An AVIF that names its colour space by numbers."""
    data = saved(Image.fromarray(RED), "AVIF")
    at = data.index(b"colrnclx") + 8
    return data[:at] + struct.pack(">2H", primaries, curve) + data[at + 4 :]


def test_primaries_by_number_become_a_profile() -> None:
    found = decode(numbered(12, 13))
    assert np.abs(as_shown(found)[8, 8] - to_srgb(RED[0, 0], P3)).max() <= 3
    kept, _ = published_metadata(found.kept, "avif")
    assert decode(encode(found.values, "avif", None, kept)).kept.icc == found.kept.icc
    linear = as_shown(decode(numbered(1, 8)))[8, 8]
    assert np.abs(linear - to_srgb(RED[0, 0], SRGB, 1.0)).max() <= 3
    assert decode(numbered(2, 2)).kept.icc == b""
    assert decode(numbered(1, 1)).kept.icc == b""


@pytest.mark.parametrize("curve", [16, 18])
def test_curves_of_hdr_by_number_are_refused(curve: int) -> None:
    with pytest.raises(SampleError, match="convert the picture") as caught:
        decode(numbered(9, curve))
    assert caught.value.reason == "colour_unsupported"


def test_ycck_is_converted_like_the_cmyk_that_it_codes() -> None:
    """An Adobe JPEG of four channels whose marker says that three are luma and chroma."""
    inks = Image.fromarray(np.full((16, 16, 4), (40, 90, 160, 30), np.uint8), "CMYK")
    plain = saved(inks, "JPEG", quality=100, subsampling=0, icc_profile=cmyk_profile())
    at = plain.index(b"Adobe") + 11
    assert plain[at] == 0
    found = decode(plain[:at] + b"\2" + plain[at + 1 :])
    # Stored values are read as luma, blue and red difference; they code inks by ITU-T T.871.
    luma, blue, red = (255 - 40, 255 - 90 - 128, 255 - 160 - 128)
    red_green_blue = (
        luma + 1.402 * red,
        luma - 0.344136 * blue - 0.714136 * red,
        luma + 1.772 * blue,
    )
    coded = [round(min(255, max(0, part))) for part in red_green_blue]
    expected = Image.fromarray(np.full((16, 16, 4), (*coded, 30), np.uint8), "CMYK")
    for_inks = decode(saved(expected, "TIFF", icc_profile=cmyk_profile()))
    assert "profile_converted" in found.notes
    assert np.abs(found.pixels.astype(int) - for_inks.pixels).max() <= 2


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


@pytest.mark.parametrize("inks", [(0, 0, 0, 255), (0, 0, 0, 200), (0, 0, 0, 0), (30, 20, 10, 60)])
def test_cmyk_looks_as_its_profile_says_black_included(inks: tuple[int, ...]) -> None:
    """The ink's black is light: a conversion that stretches it to 0 would change dark colours."""
    image = Image.fromarray(np.full((8, 8, 4), inks, np.uint8), "CMYK")
    profile = cmyk_profile(black=50)
    found = decode(saved(image, "TIFF", icc_profile=profile))
    lab = ImageCms.createProfile("LAB")
    own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    wanted = ImageCms.profileToProfile(image, own, lab, outputMode="LAB")
    srgb = ImageCms.createProfile("sRGB")
    shown = ImageCms.profileToProfile(Image.fromarray(found.pixels), srgb, lab, outputMode="LAB")
    light = [float(np.array(one)[0, 0, 0]) / 2.55 for one in (wanted, shown)]
    assert light[1] == pytest.approx(light[0], abs=1)


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
