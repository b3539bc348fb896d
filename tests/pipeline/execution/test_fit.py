from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from unlearnable.pipeline.errors import UsageError
from unlearnable.pipeline.execution.config import FitRunConfig
from unlearnable.pipeline.execution.driver import progress
from unlearnable.pipeline.execution.fit import fit


@pytest.fixture
def settings(corpus: Path, tmp_path: Path) -> FitRunConfig:
    return FitRunConfig(
        str(corpus / "shard-000.tar"),
        output=str(tmp_path / "surrogate"),
        steps_per_round=2,
        batch_size=8,
        texture=0.5,
        topics=None,
    )


def test_a_surrogate_is_replaced_on_request_only(settings: FitRunConfig) -> None:
    first = fit(settings)
    # Refused before the input is read.
    with pytest.raises(UsageError, match=r"holds a surrogate; .*--keep .*--overwrite"):
        fit(replace(settings, input="no-such-folder"))
    assert fit(replace(settings, overwrite=True)).sha256 != first.sha256


def test_each_phase_shows_its_steps_and_its_loss(
    settings: FitRunConfig, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_LINE_SECONDS", 0.0)
    with caplog.at_level(logging.INFO):
        fit(settings)
    for phase in ("trial on clean pairs", "fit with texture 0.5"):
        lines = [line for line in caplog.messages if line.startswith(phase)]
        assert any("1 of 2 steps, loss " in line and " left" in line for line in lines), lines
        assert any("2 of 2 steps, loss " in line for line in lines), lines
