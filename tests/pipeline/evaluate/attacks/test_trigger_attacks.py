"""Attacks that read trigger words, on a copy whose words own gratings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from unlearnable.pipeline.evaluate.attacks import average_sign, project
from unlearnable.pipeline.evaluate.attacks.inputs import Inputs, Trigger

from .conftest import Planted, make_pairs

SIDE, SAMPLES, WORDS, EPSILON = 32, 500, 6, 8


@pytest.fixture(scope="module")
def gratings(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    """One trigger word a sample; each owns a square wave of four pixels in the left half."""
    folder = tmp_path_factory.mktemp("gratings")
    rng = np.random.default_rng(5)
    content = rng.integers(80, 176, (SAMPLES, 1, 1, 3))
    content = (content + rng.normal(0, 12, (SAMPLES, SIDE, SIDE, 3))).round().clip(8, 247)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    ways = (columns, rows, rows + columns, rows - columns, columns + 1, rows + 1)
    waves = np.stack([np.where(way % 4 < 2, 1, -1) for way in ways])[..., None]
    patterns = EPSILON * waves * rng.choice([-1, 1], (WORDS, 1, 1, 3))
    patterns[:, :, SIDE // 2 :] = 0
    choice = rng.integers(0, WORDS, SAMPLES)
    plain = [[f"a thing {row % 7}"] for row in range(SAMPLES)]
    marked = [
        [f"w{word} {text}" for text in texts] for word, texts in zip(choice, plain, strict=True)
    ]
    code = patterns[choice]
    return Planted(
        make_pairs(folder / "clean.raw", content, plain),
        make_pairs(folder / "protected.raw", content + code, marked),
        code,
    )


def given(path: Path) -> Inputs:
    return Inputs(0, 0, str(path), torch.device("cpu"), trigger=Trigger(1, EPSILON))


def test_signs_at_the_periods_that_stand_out_are_subtracted(
    gratings: Planted, tmp_path: Path
) -> None:
    attacked = average_sign.run(gratings.protected, given(tmp_path / "a.raw"))
    assert abs(gratings.left(attacked)) < 0.15
    change = attacked.images().astype(int) - gratings.protected.images()
    assert np.abs(change).max() == EPSILON
    control = average_sign.run(gratings.clean, given(tmp_path / "c.raw"))
    before = gratings.clean.images().astype(int)
    assert np.abs(control.images() - before).mean() < 0.1 * EPSILON


def test_a_projection_takes_off_what_a_linear_classifier_reads(
    gratings: Planted, tmp_path: Path
) -> None:
    attacked = project.run(gratings.protected, given(tmp_path / "p.raw"))
    assert gratings.left(attacked) < 0.4
    before = gratings.protected.images().astype(float)
    # What is kept is nearly all of a picture: only a few directions of thousands are taken.
    rest = attacked.images() - (before - gratings.code)
    assert np.square(rest).mean() < 0.6 * np.square(gratings.code).mean()
    again = project.run(gratings.protected, given(tmp_path / "q.raw"))
    assert np.array_equal(again.images(), attacked.images())
