from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from unlearnable.pipeline.data.png import encode_png


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (37, 53), (256, 256)])
def test_every_pixel_comes_back(channels: int, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (*size, channels), np.uint8)
    with Image.open(io.BytesIO(encode_png(pixels))) as image:
        assert image.format == "PNG"
        assert image.size == size[::-1]
        assert np.array_equal(np.array(image).reshape(pixels.shape), pixels)


def test_grey_without_a_third_axis_and_pixels_in_any_memory_order() -> None:
    pixels = np.arange(60, dtype=np.uint8).reshape(6, 10)
    for view in (pixels, pixels.T, pixels[::-1, ::2]):
        with Image.open(io.BytesIO(encode_png(view))) as image:
            assert np.array_equal(np.array(image), view)


def test_a_picture_is_at_most_a_tenth_larger_than_pillow_writes_it() -> None:
    rng = np.random.default_rng(0)
    ramp = np.add.outer(np.arange(200), np.arange(240))[..., None] / 2
    pixels = (ramp + rng.normal(0, 5, (200, 240, 3))).clip(0, 255).astype(np.uint8)
    pillow = io.BytesIO()
    Image.fromarray(pixels).save(pillow, "PNG", compress_level=2)
    assert len(encode_png(pixels)) < 1.1 * len(pillow.getvalue())
