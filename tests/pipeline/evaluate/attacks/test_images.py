import numpy as np
import pytest

from unlearnable.pipeline.evaluate.attacks.catalogue import parse_attacks
from unlearnable.pipeline.evaluate.corpora import image_edit


def run(text: str, pixels: np.ndarray, row: int = 0, seed: int = 0) -> np.ndarray:
    changed = image_edit(parse_attacks((text,))[0].attacks[0], seed)(pixels, row)
    assert changed.dtype == np.uint8
    return changed


def distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(float) - other).mean())


@pytest.fixture
def picture() -> np.ndarray:
    rows, columns = np.mgrid[:48, :80]
    smooth = np.stack([rows * 4, columns * 3, (rows + columns) * 2], axis=-1) % 256
    return (smooth * 0.9 + np.random.default_rng(0).integers(0, 6, smooth.shape)).astype(np.uint8)


@pytest.mark.parametrize(
    "text",
    ["jpeg:95", "jpeg:50", "down-up:2", "gray", "blur:1", "median:3", "bits:4", "noise:8"],
)
def test_pictures_change_and_keep_their_size(text: str, picture: np.ndarray) -> None:
    before = picture.copy()
    changed = run(text, picture)
    assert changed.shape == picture.shape
    assert 0.1 < distance(changed, picture) < 40
    assert np.array_equal(picture, before)
    assert np.array_equal(run(text, picture), changed)


@pytest.mark.parametrize(
    ("weak", "strong"),
    [
        ("jpeg:95", "jpeg:50"),
        ("down-up:1.5", "down-up:4"),
        ("blur:0.5", "blur:3"),
        ("median:3", "median:7"),
        ("bits:6", "bits:3"),
        ("noise:2", "noise:16"),
    ],
)
def test_the_argument_sets_the_strength(weak: str, strong: str, picture: np.ndarray) -> None:
    assert distance(run(strong, picture), picture) > 1.15 * distance(run(weak, picture), picture)


def test_gray_and_bits_leave_what_they_say(picture: np.ndarray) -> None:
    gray = run("gray", picture)
    assert (gray[..., 0] == gray[..., 2]).all()
    assert len(np.unique(run("bits:2", picture))) == 4


def test_noise_has_the_spread_asked_for_and_is_another_for_each_picture() -> None:
    grey = np.full((200, 200, 3), 128, np.uint8)
    first = run("noise:8", grey, row=1)
    assert first.std() == pytest.approx(8, rel=0.02)
    assert np.array_equal(first, run("noise:8", grey, row=1))
    assert not np.array_equal(first, run("noise:8", grey, row=2))
    assert not np.array_equal(first, run("noise:8", grey, row=1, seed=1))


@pytest.mark.parametrize(("height", "width"), [(100, 400), (400, 100), (20, 80)])
def test_the_crawler_keeps_the_aspect_and_pads_with_white(height: int, width: int) -> None:
    crawled = run("crawl", np.full((height, width, 3), 90, np.uint8))
    assert crawled.shape == (256, 256, 3)
    centre = crawled[128 - 24 : 128 + 24, 128 - 24 : 128 + 24]
    assert np.abs(centre.astype(int) - 90).max() <= 3
    corner = crawled[:64, :64]
    assert corner.min() >= 250
    filled = int((crawled[..., 0] < 172).sum())
    assert filled == pytest.approx(256 * 64, rel=0.05)
