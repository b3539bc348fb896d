"""A corpus of pictures of mixed sizes, and a fit by the published schedule on a part of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from unlearnable.pipeline.data.images import encode
from unlearnable.pipeline.data.shards import Member, Sample, write_shard
from unlearnable.pipeline.execution.config import FitRunConfig
from unlearnable.pipeline.execution.fit import FitSummary, fit

SIZES = ((32, 32), (48, 40), (32, 32), (30, 64), (90, 70))
"""Height and width; the first is that of the model."""
ROUNDS, SEARCHED, STEPS, BATCH = 2, 1, 2, 6
SEEN, UNSEEN = "seen", ("unseen-0", "unseen-1")
_WORDS = ("red", "dog", "blue", "ball", "green", "car", "old", "house", "small", "tree", "big")


def write_corpus(folder: Path) -> Path:
    """Write a shard for the fit and two that it does not see, 12 samples each."""
    folder.mkdir()
    for number, name in enumerate((SEEN, *UNSEEN)):
        rng = np.random.default_rng(number)
        write_shard(folder / f"{name}.tar", [_sample(rng, row) for row in range(12)])
    return folder


def _sample(rng: np.random.Generator, row: int) -> Sample:
    height, width = SIZES[row % len(SIZES)]
    coarse = rng.integers(20, 230, (5, 5, 3), dtype=np.uint8)
    pixels = np.kron(coarse, np.ones((18, 14, 1), np.uint8))[:height, :width]
    key, words = f"{row:04d}", rng.choice(_WORDS, 2)
    caption = f"a {words[0]} {words[1]} number {row}".encode()
    members = (
        Member(f"{key}.png", "png", encode(np.ascontiguousarray(pixels), "png")),
        Member(f"{key}.txt", "txt", caption),
    )
    return Sample(key, members, row)


def fit_published(corpus: Path, output: Path) -> FitSummary:
    """Fit on the shard `SEEN`."""
    return fit(
        FitRunConfig(
            str(corpus / f"{SEEN}.tar"),
            output=str(output),
            schedule="paper",
            trigger_words=3,
            rounds=ROUNDS,
            hotflip_rounds=SEARCHED,
            steps_per_round=2,
            pgd_steps=STEPS,
            batch_size=BATCH,
            image_size=32,
            context_length=16,
            torch_threads=1,
            device="cpu",
        )
    )
