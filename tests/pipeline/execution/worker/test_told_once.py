"""What is wrong with many samples of a shard is one line of the log."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from unlearnable.pipeline.data.images import encode
from unlearnable.pipeline.data.shards import Member, Sample, write_shard
from unlearnable.pipeline.errors import UsageError
from unlearnable.pipeline.execution.config import FitRunConfig, ProtectConfig
from unlearnable.pipeline.execution.fit import fit
from unlearnable.pipeline.execution.protect import protect


@pytest.fixture
def without_captions(tmp_path: Path) -> Path:
    data = encode(np.zeros((32, 32, 3), np.uint8), "png")
    samples = [Sample(f"{n:03d}", (Member(f"{n:03d}.png", "png", data),), n) for n in range(30)]
    bad = Sample("bad", (Member("bad.png", "png", b"no image"), Member("bad.txt", "txt", b"a")), 30)
    folder = tmp_path / "in"
    folder.mkdir()
    write_shard(folder / "shard-000.tar", [*samples, bad])
    return folder


def test_a_shard_without_captions_is_one_warning(
    without_captions: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = ProtectConfig(str(without_captions), str(tmp_path / "out"), method="random")
    assert protect(config).quarantined == 31
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(told) == 2
    assert "shard-000: 1 sample is quarantined (image_undecodable), first bad: " in told[0]
    assert "shard-000: 30 samples are quarantined (missing_caption), first 0" in told[1]


def test_a_fit_passes_over_them_in_one_line(
    without_captions: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(UsageError, match="holds 0 usable samples"):
        fit(FitRunConfig(str(without_captions), output=str(tmp_path / "fitted")))
    told = [record.getMessage() for record in caplog.records if "passed over" in record.message]
    assert len(told) == 2
