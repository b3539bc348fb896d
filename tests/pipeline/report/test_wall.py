from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from unlearnable.pipeline.report.wall import Line, wall_png


def sheet(*lines: Line) -> np.ndarray:
    titles = [f"column {number}" for number in range(len(lines[0].pictures))]
    with Image.open(io.BytesIO(wall_png(titles, list(lines)))) as image:
        return np.asarray(image)


def noise(*size: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (*size, 3)).astype(np.uint8)


def holds(whole: np.ndarray, part: np.ndarray) -> bool:
    """Whether a part stands somewhere in a picture, pixel for pixel."""
    height, width = part.shape[:2]
    corners = np.argwhere((whole == part[0, 0]).all(-1))
    return any(np.array_equal(whole[y : y + height, x : x + width], part) for y, x in corners)


def test_every_picture_stands_at_its_own_size_and_its_middle_at_twice_it() -> None:
    pictures = [noise(40, 60, seed=seed) for seed in range(3)]
    found = sheet(Line(pictures, "a caption", "delta sierra"))
    for picture in pictures:
        assert holds(found, picture)
        assert holds(found, picture[5:35, 15:45].repeat(2, 0).repeat(2, 1))


def test_of_a_large_picture_the_middle_is_shown() -> None:
    picture = noise(1000, 700, seed=0)
    found = sheet(Line([picture], "a caption", ""))
    assert holds(found, picture[276:724, 126:574])
    assert max(found.shape) < 1200


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (3, 2)])
def test_odd_sizes_are_shown(size: tuple[int, int]) -> None:
    assert sheet(Line([noise(*size, seed=0)] * 2, "", "")).size


def test_a_trigger_stands_over_the_copies_alone() -> None:
    line = Line([noise(40, 40, seed=0)] * 2, "a long caption " * 20, "delta sierra tango")
    found = sheet(line)
    red = np.argwhere((found == (0xB3, 0x26, 0x1E)).all(-1))
    assert len(red) > 20
    assert red[:, 1].min() > found.shape[1] // 2
