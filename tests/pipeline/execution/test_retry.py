"""`retry`: only what failed, as the plan says, to the bytes of an undisturbed run."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from runs import digests, kept

from unlearnable.jobs.cli import main
from unlearnable.pipeline.data.ledger import LedgerRecord
from unlearnable.pipeline.data.plan import read_plan, write_plan
from unlearnable.pipeline.errors import UsageError
from unlearnable.pipeline.execution.config import ProtectConfig, RetryConfig
from unlearnable.pipeline.execution.driver.schedule import ShardTask
from unlearnable.pipeline.execution.protect import protect
from unlearnable.pipeline.execution.retry import retry
from unlearnable.pipeline.execution.worker.shard_worker import ShardWorker
from unlearnable.pipeline.verify.config import VerifyConfig
from unlearnable.pipeline.verify.verify import verify


@pytest.fixture
def broken(corpus: Path, tmp_path: Path) -> tuple[ProtectConfig, Path]:
    """A finished run in which shard-001 failed, and where its whole input is to be had."""
    source = shutil.copytree(corpus, tmp_path / "in")
    (source / "shard-001.tar").write_bytes((corpus / "shard-001.tar").read_bytes()[:30_000])
    config = ProtectConfig(
        str(source), str(tmp_path / "out"), method="random", executor="local", seed=7, owner="Me"
    )
    assert protect(config).exit_code == 3
    return config, corpus / "shard-001.tar"


def test_a_repaired_shard_is_done_as_in_an_undisturbed_run(
    broken: tuple[ProtectConfig, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, whole = broken
    output = Path(config.output)
    shutil.copy(whole, Path(config.input) / "shard-001.tar")
    untouched = {path: path.stat().st_mtime_ns for path in output.glob("**/shard-00[023]*")}
    assert main(["retry", str(output), "--executor", "local"]) == 0
    assert "4 of 4 shards" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in untouched} == untouched
    assert (output / "_SUCCESS").exists()
    assert "Me" in (output / "README.md").read_text()
    protect(replace(config, output=str(tmp_path / "undisturbed")))
    assert digests(output, "index.json") == digests(tmp_path / "undisturbed", "index.json")
    # Nothing is left to do, and that is no error; the repaired input is no changed one.
    assert retry(RetryConfig(str(output), executor="local")).exit_code == 0


def test_a_damaged_shard_is_made_anew_when_it_is_named(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    line = ["protect", str(corpus), str(output), "--method", "random", "--executor", "local"]
    assert main(line) == 0
    before = digests(output, "index.json")
    (output / "shard-001.tar").write_bytes(b"bits that fell over")
    assert main(["verify", str(output)]) == 4
    assert "the first: shard_" in capsys.readouterr().out.splitlines()[-1]
    assert main(["retry", str(output), "--executor", "local", "--shards", "shard-9"]) == 2
    assert "has no shard shard-9" in capsys.readouterr().err
    assert main(["retry", str(output), "--executor", "local", "--shards", "shard-001"]) == 0
    assert digests(output, "index.json") == before
    assert main(["verify", str(output), "--against", str(corpus)]) == 0


def test_what_fails_again_stays_failed(broken: tuple[ProtectConfig, Path]) -> None:
    summary = retry(RetryConfig(broken[0].output, executor="local"))
    assert (summary.exit_code, summary.committed, list(summary.failed)) == (3, 3, ["shard-001"])
    assert not (Path(broken[0].output) / "_SUCCESS").exists()


def test_shards_that_never_began_are_left_and_named(broken: tuple[ProtectConfig, Path]) -> None:
    config, whole = broken
    output = Path(config.output)
    shutil.copy(whole, Path(config.input) / "shard-001.tar")
    (kept(output) / "_ledger" / "shard-003.json").unlink()
    summary = retry(RetryConfig(config.output, executor="local"))
    assert (summary.exit_code, summary.committed) == (3, 3)
    assert "1 shards were never begun" in str(summary)
    assert not (kept(output) / "_ledger" / "shard-003.json").exists()
    assert protect(config).exit_code == 0


def test_what_a_joined_run_did_meanwhile_counts(
    broken: tuple[ProtectConfig, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, whole = broken
    output = Path(config.output)
    shutil.copy(whole, Path(config.input) / "shard-001.tar")
    (kept(output) / "_ledger" / "shard-003.json").unlink()
    run = ShardWorker.run

    def after_another_run(worker: ShardWorker, task: ShardTask) -> LedgerRecord:
        monkeypatch.setattr(ShardWorker, "run", run)
        assert protect(replace(config, join=True)).exit_code == 0
        return run(worker, task)

    monkeypatch.setattr(ShardWorker, "run", after_another_run)
    summary = retry(RetryConfig(config.output, executor="local"))
    assert (summary.exit_code, summary.committed) == (0, 4)
    assert verify(VerifyConfig(config.output, against=config.input)).exit_code == 0


def test_a_surrogate_that_moved_is_named(corpus: Path, surrogate: str, tmp_path: Path) -> None:
    here = shutil.copytree(surrogate, tmp_path / "here")
    source = shutil.copytree(corpus, tmp_path / "in")
    (source / "shard-001.tar").write_bytes(b"")
    config = ProtectConfig(
        str(source), str(tmp_path / "out"), surrogate=str(here), steps=1, executor="local"
    )
    assert protect(config).exit_code == 3
    shutil.copy(corpus / "shard-001.tar", source / "shard-001.tar")
    here.rename(tmp_path / "there")
    again = RetryConfig(config.output, executor="local")
    with pytest.raises(UsageError, match="here is no surrogate"):
        retry(again)
    assert retry(replace(again, surrogate=str(tmp_path / "there"))).exit_code == 0


def test_another_release_is_refused(broken: tuple[ProtectConfig, Path]) -> None:
    plan = read_plan(str(kept(Path(broken[0].output))))
    assert plan is not None
    write_plan(str(kept(Path(broken[0].output))), replace(plan, version="0.0.1"))
    with pytest.raises(UsageError, match=r"begun by release 0\.0\.1"):
        retry(RetryConfig(broken[0].output))
