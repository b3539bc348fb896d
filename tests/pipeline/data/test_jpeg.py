"""JPEG in, JPEG out: own tables and subsampling, a floor, and files of about the same size."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from pictures import saved
from PIL import Image, JpegImagePlugin

from unlearnable.pipeline.data.images import (
    JPEG_SLACK,
    Decoded,
    budget_of,
    decode,
    encode,
)
from unlearnable.pipeline.data.jpeg import JPEG_FLOOR
from unlearnable.pipeline.data.jpeg_segments import jpeg_end
from unlearnable.pipeline.errors import SampleError


def photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Something like a photograph: noise at every scale, a few edges, a sensor's grain."""
    rng = np.random.default_rng(seed)
    total = np.full((height, width, 3), 128.0)
    for octave in range(1, 6):
        shape = (max(2, height >> (8 - octave)), max(2, width >> (8 - octave)))
        coarse = rng.normal(0, 110 / 2**octave, (*shape, 3)).clip(-128, 127) + 128
        layer = Image.fromarray(coarse.astype(np.uint8)).resize((width, height), Image.BICUBIC)
        total += np.asarray(layer).astype(float) - 128
    total[height // 3 :, width // 2 :] *= 0.7
    return (total + rng.normal(0, 2.5, total.shape)).clip(0, 255).astype(np.uint8)


def grating(height: int, width: int) -> np.ndarray:
    """A perturbation of 8 levels like those that `protect` adds: a slow grating in colours."""
    y, x = np.mgrid[:height, :width] / min(height, width)
    phases = np.arange(3) * 2.1
    return np.round(8 * np.sin(2 * np.pi * 9 * (x + 0.6 * y))[..., None] * np.cos(phases))


def published(data: bytes) -> tuple[bytes, Decoded, int]:
    """Return what is published of a JPEG, the input, and the change of the decoded file."""
    found = decode(data)
    height, width = found.values.shape[:2]
    pixels = (found.values + grating(height, width)).clip(0, 255).astype(np.uint8)
    for style in found.styles("jpeg"):
        output = encode(pixels[..., 0] if found.grey else pixels, "jpeg", style)
        linf = int(np.abs(decode(output).values.astype(int) - found.values).max())
        if linf <= budget_of("jpeg", 8):
            return output, found, linf
    raise AssertionError("no style keeps the budget")


def tables_of(data: bytes) -> tuple[list[list[int]], int]:
    with Image.open(io.BytesIO(data)) as image:
        return list(image.quantization.values()), JpegImagePlugin.get_sampling(image)


@pytest.mark.parametrize("quality", [76, 85, 92])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
def test_tables_subsampling_and_mode_are_the_inputs(
    quality: int, subsampling: int, progressive: bool
) -> None:
    data = saved(
        Image.fromarray(photo(160, 224)), "JPEG", quality=quality, subsampling=subsampling,
        progressive=progressive,
    )  # fmt: skip
    output, found, linf = published(data)
    assert tables_of(output) == tables_of(data)
    assert decode(output).jpeg == found.jpeg
    assert linf <= 8 + JPEG_SLACK
    assert len(output) <= 1.3 * len(data)


def test_tables_below_the_floor_get_the_floor() -> None:
    data = saved(Image.fromarray(photo(160, 224)), "JPEG", quality=30)
    floor = tables_of(saved(Image.new("RGB", (8, 8)), "JPEG", quality=JPEG_FLOOR))
    assert tables_of(published(data)[0]) == floor


def test_only_what_is_below_the_floor_is_raised() -> None:
    """Tables of another encoder's shape keep the steps that are fine enough."""
    own = [[40] * 32 + [1] * 32, [40] * 32 + [1] * 32]
    data = saved(Image.fromarray(photo(160, 224)), "JPEG", qtables=own)
    standard = tables_of(saved(Image.new("RGB", (8, 8)), "JPEG", quality=JPEG_FLOOR))[0]
    first = next(decode(data).styles("jpeg"))
    for table, limits in zip(first.tables, standard, strict=True):
        assert table == tuple(map(min, own[0], limits))


@pytest.mark.parametrize("options", [{"restart_marker_blocks": 3}, {"restart_marker_rows": 1}])
def test_restart_markers_are_read(options: dict[str, int]) -> None:
    data = saved(Image.fromarray(photo(96, 96)), "JPEG", **options)
    assert b"\xff\xd1" in data
    output, _, linf = published(data)
    assert linf <= 8 + JPEG_SLACK
    assert jpeg_end(output) == len(output)


def resampled(data: bytes, luma: int) -> bytes:
    """Return a JPEG of the same size whose header states other sampling factors, zero data."""
    at = data.index(b"\xff\xc0")
    return data[: at + 11] + bytes([luma]) + data[at + 12 :]


def test_4_1_1_is_read_and_written_as_4_2_0() -> None:
    # Four blocks across instead of two by two: the same data, another order in the picture.
    plain = Image.new("RGB", (64, 64), (120, 90, 160))
    data = resampled(saved(plain, "JPEG", subsampling=2), 0x41)
    with Image.open(io.BytesIO(data)) as image:
        assert image.layer[0][1:3] == (4, 1)
    output, found, _ = published(data)
    assert found.jpeg is not None
    assert found.jpeg.subsampling == 2
    assert tables_of(output) == (tables_of(data)[0], 2)


def test_twelve_bits_are_refused_by_name() -> None:
    data = bytearray(saved(Image.fromarray(photo(32, 32)), "JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 1], data[at + 4] = 0xC1, 12
    with pytest.raises(SampleError, match="12 bits") as caught:
        decode(bytes(data))
    assert caught.value.reason == "image_unsupported"


def test_a_grey_jpeg_stays_grey() -> None:
    data = saved(Image.fromarray(photo(96, 96)[..., 0]), "JPEG", quality=88)
    output, _, _ = published(data)
    with Image.open(io.BytesIO(output)) as image:
        assert image.mode == "L"
    assert tables_of(output)[0] == tables_of(data)[0]


def test_tables_of_ones_and_noise_fit_the_encoders_buffer() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    ones = [[1] * 64] * 2
    data = saved(Image.fromarray(noise), "JPEG", qtables=ones, subsampling=0)
    style = decode(data).jpeg
    assert style is not None
    for progressive in (False, True):
        again = encode(noise, "jpeg", style._replace(progressive=progressive))
        assert np.abs(decode(again).values.astype(int) - noise).max() <= 4


@pytest.mark.slow
@pytest.mark.parametrize(("quality", "subsampling"), [(96, 0), (92, 2), (88, 1)])
def test_files_of_12_megapixels_keep_their_size(quality: int, subsampling: int) -> None:
    data = saved(
        Image.fromarray(photo(3000, 4000)), "JPEG", quality=quality, subsampling=subsampling
    )
    output, _, linf = published(data)
    assert tables_of(output) == tables_of(data)
    assert linf <= 8 + JPEG_SLACK
    assert len(output) <= 1.3 * len(data)


def test_the_size_of_a_header_is_not_trusted() -> None:
    assert jpeg_end(b"\xff\xd8\xff\xe0\xff\xff") == 6
    assert jpeg_end(b"") == 0
    assert jpeg_end(b"\xff\xd8" + struct.pack(">HH", 0xFFE0, 0)) == 6
