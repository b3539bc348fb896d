"""`restore`: captions come back byte for byte, images stay protected."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from runs import copy_both

from unlearnable.pipeline.data.shards import Member, Sample, open_shard
from unlearnable.pipeline.errors import UsageError
from unlearnable.pipeline.execution.config import ProtectConfig, RestoreConfig, RetryConfig
from unlearnable.pipeline.execution.protect import protect
from unlearnable.pipeline.execution.restore import restore
from unlearnable.pipeline.execution.retry import retry
from unlearnable.pipeline.execution.status import run_status


@pytest.fixture(scope="module")
def protected(corpus: Path, surrogate: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("protected") / "out"
    config = ProtectConfig(str(corpus), str(output), surrogate=surrogate, steps=0)
    assert protect(replace(config, executor="local")).exit_code == 0
    return output


def members(shard: Path) -> list[list[Member]]:
    with open_shard(str(shard)) as reader:
        return [list(sample.members) for sample in reader]


def test_captions_are_the_inputs_and_images_the_outputs(
    corpus: Path, protected: Path, tmp_path: Path
) -> None:
    destination = tmp_path / "restored"
    summary = restore(RestoreConfig(str(protected), str(destination)))
    assert (summary.exit_code, summary.committed, summary.samples) == (0, 4, 80)
    assert "4 of 4 shards, 80 samples restored (captions as they were" in str(summary)
    assert "80 samples: restored, images still protected" in str(run_status(str(destination)))
    assert (destination / "_SUCCESS").exists()
    for shard in corpus.glob("*.tar"):
        rows = zip(
            members(shard),
            members(protected / shard.name),
            members(destination / shard.name),
            strict=True,
        )
        for before, published, restored in rows:
            assert [m for m in restored if m.ext != "png"] == [m for m in before if m.ext != "png"]
            assert [m for m in restored if m.ext == "png"] == [
                m for m in published if m.ext == "png"
            ]
            assert published != restored


def test_a_shard_that_was_made_anew_is_restored_anew(corpus: Path, tmp_path: Path) -> None:
    source = shutil.copytree(corpus, tmp_path / "in")
    output, destination = tmp_path / "out", tmp_path / "restored"
    protect(ProtectConfig(str(source), str(output), method="random", executor="local"))
    assert restore(RestoreConfig(str(output), str(destination))).exit_code == 0
    untouched = (destination / "shard-001.tar").stat().st_mtime_ns
    # The owner mends one shard: another one's samples stand for other captions.
    shutil.copy(corpus / "shard-003.tar", source / "shard-002.tar")
    again = RetryConfig(str(output), executor="local", shards=("shard-002",))
    assert retry(again).exit_code == 0
    assert restore(RestoreConfig(str(output), str(destination))).exit_code == 0
    assert members(destination / "shard-002.tar") == members(output / "shard-002.tar")
    assert (destination / "_SUCCESS").exists()
    assert (destination / "shard-001.tar").stat().st_mtime_ns == untouched


def test_a_shard_that_is_not_the_committed_one_fails_alone(protected: Path, tmp_path: Path) -> None:
    from unlearnable.pipeline.data.shards import write_shard

    copy = copy_both(protected, tmp_path / "copy")
    content = members(copy / "shard-001.tar")
    samples = [Sample(str(row), tuple(m), row) for row, m in enumerate(content[:-1])]
    write_shard(copy / "shard-001.tar", samples)
    destination = tmp_path / "restored"
    summary = restore(RestoreConfig(str(copy), str(destination)))
    assert summary.exit_code == 3
    assert "not the shard that was committed" in summary.failed["shard-001"]
    assert not (destination / "shard-001.tar").exists()
    assert not (destination / "_SUCCESS").exists()
    assert summary.committed == 3


def test_what_is_no_output_or_no_free_place_is_refused(protected: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no run"):
        restore(RestoreConfig(str(tmp_path), str(tmp_path / "x")))
    with pytest.raises(UsageError, match="inside the input"):
        restore(RestoreConfig(str(protected), str(protected / "restored")))
