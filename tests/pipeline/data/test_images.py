from __future__ import annotations

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from unlearnable.pipeline.data.images import (
    IMAGE_FORMATS,
    decode,
    encode,
    fit_square,
    image_member,
    output_ext,
    replace_image,
)
from unlearnable.pipeline.data.shards import Member, Sample
from unlearnable.pipeline.errors import SampleError, UsageError

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (13, 21, 3), dtype=np.uint8)
# Smooth enough for JPEG to keep it within a few levels.
SMOOTH = np.stack(np.broadcast_arrays(*np.ogrid[60:160:24j, 40:120:32j], 99), axis=-1).astype(
    np.uint8
)


def save(image: Image.Image, fmt: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, fmt, **options)
    return buffer.getvalue()


def reason_of(data: bytes, **options: int) -> str:
    with pytest.raises(SampleError) as caught:
        decode(data, **options)
    assert str(caught.value)
    return caught.value.reason


@pytest.mark.parametrize("fmt", ["png", "webp"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (17, 3), (64, 64)])
def test_lossless_formats_keep_every_pixel(fmt: str, shape: tuple[int, int]) -> None:
    pixels = RNG.integers(0, 256, (*shape, 3), dtype=np.uint8)
    decoded = decode(encode(pixels, fmt))
    assert decoded.source_format == fmt
    assert decoded.pixels.dtype == np.uint8
    assert decoded.pixels.flags.writeable
    np.testing.assert_array_equal(decoded.pixels, pixels)


@pytest.mark.parametrize("fmt", IMAGE_FORMATS)
def test_equal_pixels_give_equal_bytes(fmt: str) -> None:
    assert (
        encode(PIXELS, fmt) == encode(PIXELS.copy(), fmt) == encode(np.asfortranarray(PIXELS), fmt)
    )


def test_jpeg_keeps_full_colour_resolution() -> None:
    data = encode(SMOOTH, "jpeg")
    with Image.open(io.BytesIO(data)) as image:
        assert [layer[1:3] for layer in image.layer] == [(1, 1)] * 3
    assert np.abs(decode(data).pixels.astype(int) - SMOOTH).max() <= 4


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_opaque_modes(mode: str) -> None:
    image = Image.fromarray(PIXELS).convert(mode)
    expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(decode(save(image, "PNG")).pixels, expected)


def test_cmyk() -> None:
    image = Image.fromarray(SMOOTH).convert("CMYK")
    decoded = decode(save(image, "JPEG", quality=95))
    assert decoded.source_format == "jpeg"
    assert np.abs(decoded.pixels.astype(int) - SMOOTH).max() <= 16


def test_alpha_lies_over_white() -> None:
    red = np.full((2, 2, 3), (255, 0, 0), np.uint8)
    alpha = np.array([[0, 255], [128, 0]], np.uint8)
    expected = [[[255, 255, 255], [255, 0, 0]], [[255, 127, 127], [255, 255, 255]]]
    image = Image.fromarray(np.dstack([red, alpha]))
    np.testing.assert_array_equal(decode(save(image, "PNG")).pixels, expected)
    grey = Image.merge("LA", (Image.new("L", (2, 2), 0), Image.fromarray(alpha)))
    assert decode(save(grey, "PNG")).pixels[:, :, 0].tolist() == [[255, 0], [127, 255]]


def test_palette_transparency_lies_over_white() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([0, 0, 255, 9, 9, 9])
    image.putpixel((1, 0), 1)
    decoded = decode(save(image, "PNG", transparency=0)).pixels
    assert decoded.tolist() == [[[255, 255, 255], [9, 9, 9]]]


def test_sixteen_bits_keep_the_high_byte() -> None:
    values = np.array([[0, 255, 256, 32768, 65535]], np.uint16)
    decoded = decode(save(Image.fromarray(values), "PNG")).pixels
    assert decoded[0, :, 1].tolist() == [0, 0, 1, 128, 255]


def test_floating_point_pixels_are_refused() -> None:
    assert reason_of(save(Image.new("F", (3, 3)), "TIFF")) == "image_unsupported"


@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(fmt: str, orientation: int) -> None:
    image = Image.fromarray(SMOOTH)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {} if fmt == "PNG" else {"quality": 100}
    pixels = decode(save(image, fmt, exif=exif, **options)).pixels
    upright = {
        1: SMOOTH, 2: SMOOTH[:, ::-1], 3: SMOOTH[::-1, ::-1], 4: SMOOTH[::-1],
        5: SMOOTH.swapaxes(0, 1), 6: SMOOTH[::-1].swapaxes(0, 1),
        7: SMOOTH[::-1, ::-1].swapaxes(0, 1), 8: SMOOTH[:, ::-1].swapaxes(0, 1),
    }[orientation]  # fmt: skip
    assert pixels.shape == upright.shape
    assert np.abs(pixels.astype(int) - upright).max() <= 6
    assert b"Exif" not in encode(pixels, "jpeg")


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_does_not_matter() -> None:
    data = save(Image.fromarray(SMOOTH), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7fgarbage")
    assert decode(data).pixels.shape == SMOOTH.shape


def test_animations_are_refused() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    for fmt in ("GIF", "PNG", "WEBP"):
        data = save(frames[0], fmt, save_all=True, append_images=frames[1:])
        assert reason_of(data) == "image_animated", fmt


def test_a_still_gif_is_an_image() -> None:
    assert decode(save(Image.new("RGB", (8, 8), "red"), "GIF")).source_format == "gif"


def test_a_photograph_with_an_embedded_second_picture_is_one_image() -> None:
    second = Image.new("RGB", (8, 8), "blue")
    data = save(Image.fromarray(SMOOTH), "MPO", save_all=True, append_images=[second])
    decoded = decode(data)
    assert decoded.source_format == "jpeg"
    assert decoded.pixels.shape == SMOOTH.shape


def png_header(width: int, height: int) -> bytes:
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    header = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    return b"\x89PNG\r\n\x1a\n" + header + struct.pack(">I", 1 << 20) + b"IDAT"


@pytest.mark.parametrize("side", [9000, 60_000])
def test_a_gigantic_image_is_refused_by_its_header(side: int) -> None:
    assert reason_of(png_header(side, side)) == "image_too_large"


def test_the_limit_of_pixels_is_inclusive() -> None:
    data = encode(PIXELS, "png")
    assert decode(data, max_pixels=13 * 21).pixels.shape == PIXELS.shape
    assert reason_of(data, max_pixels=13 * 21 - 1) == "image_too_large"


@pytest.mark.parametrize("data", [b"", b"not an image", b"\x89PNG\r\n\x1a\n", b"%! a comment"])
def test_no_image(data: bytes) -> None:
    assert reason_of(data) == "image_undecodable"


@pytest.mark.parametrize("fmt", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_truncated_images(fmt: str) -> None:
    data = save(Image.fromarray(PIXELS), fmt)
    for part in (0.2, 0.5, 0.8):
        assert reason_of(data[: int(len(data) * part)]) == "image_undecodable"


def test_webp_has_a_largest_side() -> None:
    with pytest.raises(SampleError, match="at most 16383 pixels"):
        encode(np.zeros((1, 16384, 3), np.uint8), "webp")


@pytest.mark.parametrize(
    ("source", "source_format", "wanted", "ext"),
    [
        ("jpg", "jpeg", "png", "png"),
        ("jpeg", "jpeg", "jpeg", "jpeg"),
        ("png", "png", "jpeg", "jpg"),
        ("left.jpg", "jpeg", "webp", "left.webp"),
        ("jpg", "jpeg", "same", "jpg"),
        ("jfif", "jpeg", "same", "jfif"),
        ("jpg.bak", "jpeg", "same", "jpg.bak"),
        ("jpg.bak", "jpeg", "png", "jpg.png"),
        ("png", "jpeg", "same", "png"),
        ("webp", "webp", "same", "webp"),
        ("avif", "avif", "same", "avif"),
        ("heic", "heif", "same", "jpg"),
        ("gif", "gif", "same", "png"),
        ("left.tiff", "tiff", "same", "left.png"),
    ],
)
def test_output_ext(source: str, source_format: str, wanted: str, ext: str) -> None:
    assert output_ext(source, source_format, wanted) == ext


def test_unknown_formats() -> None:
    with pytest.raises(UsageError, match="choose one of png, webp, jpeg"):
        output_ext("png", "png", "avif")
    with pytest.raises(UsageError, match="choose one of png, webp, jpeg"):
        encode(PIXELS, "same")


def make_sample(*names: str) -> Sample:
    members = tuple(Member(name, name.split(".", 1)[1].lower(), b"x") for name in names)
    return Sample("k", members, 0)


def test_image_member() -> None:
    sample = make_sample("k.txt", "k.JPG", "k.json")
    source = image_member(sample)
    assert source.name == "k.JPG"
    kept = replace_image(sample.members, source, b"y", "jpg")
    assert [(m.name, m.data) for m in kept] == [("k.txt", b"x"), ("k.JPG", b"y"), ("k.json", b"x")]
    changed = replace_image(sample.members, source, b"y", "png")
    assert [m.name for m in changed] == ["k.txt", "k.png", "k.json"]


@pytest.mark.parametrize(
    ("names", "reason"),
    [(("k.txt",), "missing_image"), (("k.left.png", "k.right.png"), "several_images")],
)
def test_no_single_image(names: tuple[str, ...], reason: str) -> None:
    with pytest.raises(SampleError) as caught:
        image_member(make_sample(*names))
    assert caught.value.reason == reason


@pytest.mark.parametrize("shape", [(1, 400_000, 3), (400_000, 1, 3), (2, 900_000, 3)])
def test_a_long_strip_is_resized_by_its_middle(shape: tuple[int, int, int]) -> None:
    pixels = np.zeros(shape, np.uint8)
    middle = [slice(side // 2 - 40, side // 2 + 40) if side > 80 else slice(None) for side in shape]
    pixels[tuple(middle)] = 200
    tracemalloc.start()
    squared = fit_square(pixels, 64)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert squared.shape == (64, 64, 3)
    assert (squared == 200).all()
    assert peak < 4_000_000
