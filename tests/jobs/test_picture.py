"""The picture of samples before and after: the right samples, the right difference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from unlearnable.jobs.picture import save_picture
from unlearnable.pipeline.data.images import decode, encode
from unlearnable.pipeline.data.shards import Member, Sample, write_shard
from unlearnable.pipeline.errors import UsageError

pytest.importorskip("matplotlib")

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


def shard(folder: Path, samples: dict[str, tuple[int, int, int]]) -> str:
    folder.mkdir()
    written = []
    for row, (key, colour) in enumerate(samples.items()):
        pixels = np.full((32, 32, 3), colour, np.uint8)
        members = (
            Member(f"{key}.png", "png", encode(pixels, "png")),
            Member(f"{key}.txt", "txt", f"a {key} square".encode()),
        )
        written.append(Sample(key, members, row))
    write_shard(folder / "train-000.tar", written)
    return str(folder)


def colours_of(picture: Path) -> set[tuple[int, ...]]:
    pixels = decode(picture.read_bytes()).pixels.reshape(-1, 3)
    found, counts = np.unique(pixels, axis=0, return_counts=True)
    return {tuple(map(int, colour)) for colour in found[counts > 1000]}


def test_shows_before_after_and_amplified_difference(tmp_path: Path) -> None:
    before = shard(tmp_path / "before", {"red": (255, 0, 0)})
    after = shard(tmp_path / "after", {"red": (251, 8, 0)})
    save_picture(before, after, tmp_path / "made" / "picture.png", count=1)
    expected = {(255, 0, 0), (251, 8, 0), (128 - 4 * 12, 128 + 8 * 12, 128)}
    assert expected <= colours_of(tmp_path / "made" / "picture.png")


def test_quarantined_samples_are_not_shown(tmp_path: Path) -> None:
    before = shard(tmp_path / "before", COLOURS)
    after = shard(tmp_path / "after", {"green": COLOURS["green"]})
    save_picture(before, after, tmp_path / "picture.png")
    shown = colours_of(tmp_path / "picture.png")
    assert COLOURS["green"] in shown
    assert not {COLOURS["red"], COLOURS["blue"]} & shown


def test_seed_chooses_the_samples(tmp_path: Path) -> None:
    before = shard(tmp_path / "before", COLOURS)
    after = shard(tmp_path / "after", COLOURS)
    shown = set()
    for seed in range(8):
        save_picture(before, after, tmp_path / "picture.png", seed=seed, count=1)
        shown |= colours_of(tmp_path / "picture.png") & set(COLOURS.values())
    assert shown == set(COLOURS.values())


def test_corpora_without_a_common_sample_are_refused(tmp_path: Path) -> None:
    before = shard(tmp_path / "before", {"red": COLOURS["red"]})
    after = shard(tmp_path / "after", {"blue": COLOURS["blue"]})
    with pytest.raises(UsageError, match="share no sample"):
        save_picture(before, after, tmp_path / "picture.png")
