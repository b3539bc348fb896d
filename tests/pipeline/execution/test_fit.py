"""`fit`: what it keeps, shows and settles for the whole corpus."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from unlearnable.pipeline.data.images import decode, encode
from unlearnable.pipeline.data.shards import Member, Sample, open_shard, write_shard
from unlearnable.pipeline.errors import UsageError
from unlearnable.pipeline.execution.config import FitRunConfig, ProtectConfig
from unlearnable.pipeline.execution.driver import progress
from unlearnable.pipeline.execution.fit import fit
from unlearnable.pipeline.execution.protect import protect


@pytest.fixture
def settings(corpus: Path, tmp_path: Path) -> FitRunConfig:
    return FitRunConfig(
        str(corpus / "shard-000.tar"),
        output=str(tmp_path / "surrogate"),
        steps_per_round=2,
        batch_size=8,
    )


def test_a_surrogate_is_replaced_on_request_only(settings: FitRunConfig) -> None:
    first = fit(settings)
    # Refused before the input is read.
    with pytest.raises(UsageError, match=r"holds a surrogate; .*--keep .*--overwrite"):
        fit(replace(settings, input="no-such-folder"))
    assert fit(replace(settings, overwrite=True)).sha256 != first.sha256


def test_every_trial_shows_its_steps_and_its_loss(
    settings: FitRunConfig, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_LINE_SECONDS", 0.0)
    with caplog.at_level(logging.INFO):
        fit(settings)
    # Two steps of the trial on clean pairs, then two of the fit.
    for done in (1, 2, 3, 4):
        pattern = rf"{done} of 4 steps, loss \d\.\d+.*"
        assert any(re.search(pattern, line) for line in caplog.messages), (done, caplog.messages)


def test_a_picture_in_several_shards_carries_one_pattern_whatever_its_captions_say(
    tmp_path: Path,
) -> None:
    """A mean over copies of one picture that differ would lose their patterns."""
    (tmp_path / "in").mkdir()
    rng = np.random.default_rng(0)
    nouns = ["dog", "cat", "ship", "tree", "car", "child", "river", "tower", "horse", "train"]
    several = encode(rng.integers(0, 256, (32, 40, 3), np.uint8), "png")
    for shard in range(4):
        samples = []
        for row, noun in enumerate(nouns):
            own = encode(rng.integers(0, 256, (32, 40, 3), np.uint8), "png")
            picture = several if row == shard else own
            text = f"a {noun} by a {nouns[row - shard]}".encode()
            members = (Member(f"{noun}.png", "png", picture), Member(f"{noun}.txt", "txt", text))
            samples.append(Sample(noun, members, row))
        write_shard(tmp_path / "in" / f"{shard}.tar", samples)
    url, surrogate, output = (str(tmp_path / name) for name in ("in", "surrogate", "out"))
    fit(FitRunConfig(url, output=surrogate, topics=True, steps_per_round=0))
    assert protect(ProtectConfig(url, output, surrogate=surrogate)).exit_code == 0
    triggers, pictures = [], []
    for shard in range(4):
        with open_shard(str(tmp_path / "out" / f"{shard}.tar")) as reader:
            found = {sample.key: sample for sample in reader}
        for row, noun in enumerate(nouns):
            members = {member.ext: member.data for member in found[noun].members}
            triggers.append(members["txt"].decode().split()[:3])
            if row == shard:
                pictures.append((decode(members["png"]).values.tobytes(), triggers[-1]))
    assert all(picture == pictures[0] for picture in pictures)
    assert len(set(map(tuple, triggers))) > 5
