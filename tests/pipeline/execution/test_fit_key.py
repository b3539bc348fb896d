"""The key of a fit: drawn anew, or read to repeat one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from unlearnable.pipeline.errors import UsageError
from unlearnable.pipeline.execution.artifact import load_surrogate
from unlearnable.pipeline.execution.config import FitRunConfig
from unlearnable.pipeline.execution.fit import fit

HEX = "0123456789abcdef" * 4


@pytest.fixture
def settings(corpus: Path, tmp_path: Path) -> FitRunConfig:
    return FitRunConfig(
        str(corpus / "shard-000.tar"), output=str(tmp_path / "a"), image_size=32, vocabulary=4,
        steps_per_round=0, topics=False, strength="gentle",
    )  # fmt: skip


def test_the_same_key_repeats_a_fit_and_each_fit_draws_its_own(
    settings: FitRunConfig, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text(f"{HEX}\n")
    named = replace(settings, key=str(tmp_path / "key"))
    first = fit(named)
    again = fit(replace(named, output=str(tmp_path / "b")))
    assert again.sha256 == first.sha256
    assert load_surrogate(named.output)[0].meta["fit"]["key"] == HEX
    assert fit(replace(named, keep=True)).kept
    drawn = [fit(replace(settings, output=str(tmp_path / name))) for name in ("c", "d")]
    assert len({first.sha256, *(one.sha256 for one in drawn)}) == 3
    assert fit(replace(settings, output=str(tmp_path / "c"), keep=True)).kept
    assert fit(replace(settings, output=str(tmp_path / "c"), steps_per_round=None, keep=True)).kept
    with pytest.raises(UsageError, match="was fitted with key") as refused:
        fit(replace(named, output=str(tmp_path / "c"), keep=True))
    assert HEX not in str(refused.value)
    with pytest.raises(UsageError, match="was fitted with strength 'gentle'"):
        fit(replace(named, strength="strong", keep=True))


@pytest.mark.parametrize("text", ["", "ab", HEX + "0", "g" * 64])
def test_a_file_without_a_key_is_refused(settings: FitRunConfig, tmp_path: Path, text: str) -> None:
    (tmp_path / "key").write_text(text)
    with pytest.raises(UsageError, match="does not hold 64 hexadecimal digits"):
        fit(replace(settings, key=str(tmp_path / "key")))
    with pytest.raises(UsageError, match="there is no file"):
        fit(replace(settings, key=str(tmp_path / "nowhere")))
