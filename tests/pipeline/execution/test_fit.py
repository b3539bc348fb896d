"""The samples that a fit chooses, and what it says of those that it cannot use."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from unlearnable.pipeline.data.images import encode
from unlearnable.pipeline.data.plan import resolve_input
from unlearnable.pipeline.data.shards import Member, Sample, write_shard
from unlearnable.pipeline.errors import UsageError
from unlearnable.pipeline.execution.config import FitRunConfig
from unlearnable.pipeline.execution.driver import progress
from unlearnable.pipeline.execution.fit import choose_samples, fit


@pytest.mark.parametrize(
    "members",
    [
        (Member("bad.png", "png", b"no picture"), Member("bad.txt", "txt", b"a dog")),
        (Member("bad.txt", "txt", b"a dog"),),
        (Member("bad.png", "png", encode(np.zeros((9, 9, 3), np.uint8), "png")),),
    ],
    ids=["no picture", "missing picture", "no caption"],
)
def test_what_is_passed_over_is_named_with_shard_and_key(
    members: tuple[Member, ...], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    picture = encode(np.full((32, 32, 3), 90, np.uint8), "png")
    good = (Member("good.png", "png", picture), Member("good.txt", "txt", b"a dog"))
    write_shard(tmp_path / "s.tar", [Sample("good", good, 0), Sample("bad", members, 1)])
    url = str(tmp_path)
    choice = choose_samples(resolve_input(url), FitRunConfig(url, output="unused"), 16, None)
    assert (len(choice.picks), choice.passed_over) == (1, 1)
    assert "s: 1 sample is passed over" in caplog.text
    assert "first bad: " in caplog.text


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
