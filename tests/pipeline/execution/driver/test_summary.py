"""What an output says of its run to someone who did not see it."""

from __future__ import annotations

from pathlib import Path

from unlearnable.pipeline.data.shards import open_shard, write_shard
from unlearnable.pipeline.execution.config import ProtectConfig
from unlearnable.pipeline.execution.driver.summary import outcome_of
from unlearnable.pipeline.execution.protect import protect


def test_no_run_no_verdict(tmp_path: Path) -> None:
    assert outcome_of(str(tmp_path / "nothing")) is None


def test_a_complete_output_needs_its_mark_too(corpus: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    protect(ProtectConfig(str(corpus), str(output), method="random"))
    found = outcome_of(str(output))
    assert found is not None
    assert (found.exit_code, found.committed, found.shards) == (0, 4, 4)
    (output / "_SUCCESS").unlink()
    unmarked = outcome_of(str(output))
    assert unmarked is not None
    assert unmarked.exit_code == 3


def test_missing_failed_and_quarantined_are_three(corpus: Path, tmp_path: Path) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for number, name in enumerate(("a", "b", "c")):
        with open_shard(str(corpus / f"shard-00{number}.tar")) as samples:
            write_shard(source / f"{name}.tar", samples)
    whole = (source / "b.tar").read_bytes()
    (source / "b.tar").write_bytes(whole[: len(whole) // 2])
    protect(ProtectConfig(str(source), str(output), method="random", slice="0/2"))
    half = outcome_of(str(output))
    assert half is not None
    assert (half.exit_code, half.committed, half.failed) == (3, 2, {})
    protect(ProtectConfig(str(source), str(output), method="random"))
    failed = outcome_of(str(output))
    assert failed is not None
    assert (failed.exit_code, failed.committed, list(failed.failed)) == (3, 2, ["b"])
