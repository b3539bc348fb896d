"""Corpora in memory that attacks change: pictures, a planted code, captions with its words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from unlearnable.pipeline.evaluate.pairs import Pairs

SIZE, SAMPLES, WORDS = 16, 600, 4


class Planted(NamedTuple):
    """A corpus, its protected copy and the change that was planted, float [N, S, S, 3]."""

    clean: Pairs
    protected: Pairs
    code: np.ndarray

    def left(self, attacked: Pairs) -> float:
        """Share of the planted code that is still in the pictures, by projection."""
        change = attacked.images().astype(float) - self.clean.images()
        return float((change * self.code).sum() / (self.code**2).sum())


def make_pairs(path: Path, pixels: np.ndarray, captions: list[list[str]]) -> Pairs:
    pixels.astype(np.uint8).tofile(path)
    keys = [f"shard/{row:04d}" for row in range(len(pixels))]
    return Pairs(str(path), pixels.shape[1], captions, keys, 0)


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    """Two trigger words a sample; each owns a +-8 pattern: a cast left, a fine one on the right."""
    folder = tmp_path_factory.mktemp("planted")
    rng = np.random.default_rng(0)
    content = rng.integers(90, 166, (SAMPLES, 1, 1, 3)) + rng.normal(0, 8, (SAMPLES, SIZE, SIZE, 3))
    content = content.round().clip(8, 247)
    patterns = np.zeros((2, WORDS, SIZE, SIZE, 3))
    half, side = WORDS // 2, SIZE // 2
    patterns[0, :half, :, :side] = rng.choice([-8, 8], (half, 1, 1, 3))
    patterns[1, :half, :, side:] = rng.choice([-8, 8], (half, SIZE, side, 3))
    patterns[:, half:] = -patterns[:, :half]
    choice = rng.integers(0, WORDS, (SAMPLES, 2))
    code = patterns[0, choice[:, 0]] + patterns[1, choice[:, 1]]
    plain = [[f"a thing {row % 7}", f"one of {row % 5} things"] for row in range(SAMPLES)]
    triggers = [f"w{one} v{two}" for one, two in choice]
    marked = [[f"{t} {text}" for text in texts] for t, texts in zip(triggers, plain, strict=True)]
    return Planted(
        make_pairs(folder / "clean.raw", content, plain),
        make_pairs(folder / "protected.raw", content + code, marked),
        code,
    )


@pytest.fixture
def pairs_of(tmp_path: Path) -> Callable[[list[list[str]]], Pairs]:
    """Return a function that makes pairs of black pictures with the given captions."""

    def make(captions: list[list[str]]) -> Pairs:
        return make_pairs(tmp_path / "black.raw", np.zeros((len(captions), 2, 2, 3)), captions)

    return make
