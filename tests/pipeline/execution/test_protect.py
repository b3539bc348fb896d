"""`protect` as its callers see it: what is refused, what fails alone, what a rerun does."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from runs import both, digests, kept

from unlearnable.pipeline.errors import UsageError
from unlearnable.pipeline.execution.config import ProtectConfig
from unlearnable.pipeline.execution.protect import protect
from unlearnable.pipeline.execution.status import run_status


@pytest.fixture
def noise(corpus: Path, tmp_path: Path) -> ProtectConfig:
    """A quick run: random noise over the small corpus."""
    return ProtectConfig(str(corpus), str(tmp_path / "out"), method="random", executor="local")


def test_a_run_leaves_a_complete_output_and_a_second_one_touches_nothing(
    noise: ProtectConfig,
) -> None:
    summary = protect(replace(noise, owner="The Museum"))
    assert (summary.exit_code, summary.committed, summary.protected) == (0, 4, 80)
    output = Path(noise.output)
    names = set(both(output))
    assert len([name for name in names if name.startswith("_log/")]) == 1
    names = {name for name in names if not name.startswith("_log/")}
    shards = [f"shard-{n:03d}" for n in range(4)]
    expected = {"_SUCCESS", "_plan.parquet", "index.json", "README.md", "croissant.json"}
    for shard in shards:
        expected |= {f"{shard}.tar", f"manifest/{shard}.parquet", f"_ledger/{shard}.json"}
    assert names == expected
    inside = {path.name for path in output.iterdir()}
    assert inside == {name for name in expected if "/" not in name} - {"_plan.parquet"}
    assert "The Museum" in (output / "README.md").read_text()
    before = {path: path.stat().st_mtime_ns for path in output.glob("**/shard-*")}
    assert protect(noise).exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in output.glob("**/shard-*")} == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epsilon": 0}, r"epsilon is 0; it must be 1\.\.64"),
        ({"epsilon": 65}, "epsilon is 65"),
        ({"trigger_words": 0}, r"trigger-words is 0; it must be 1\.\.16"),
        ({"trigger_words": 17}, "trigger-words is 17"),
        ({"batch_size": 1}, "batch-size is 1"),
        ({"workers": 0}, "workers is 0"),
        ({"max_pixels": 0}, "max-pixels is 0; it must be at least 1"),
        ({"device": "tpu9"}, "device is tpu9"),
        ({"caption_fields": ()}, "caption-fields is empty"),
        ({"workers": 2}, "local executor is one worker"),
        ({"max_quarantined": 1.5}, "max-quarantined is 1.5"),
        ({"method": "mem"}, "needs --surrogate"),
        ({"method": "mem", "surrogate": "/nowhere"}, "/nowhere is no surrogate"),
        ({"input": "/nowhere"}, "/nowhere"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_carried_out_is_refused_before_anything_is_written(
    noise: ProtectConfig, options: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        protect(replace(noise, **options))  # type: ignore[arg-type]
    assert not Path(noise.output).exists()


def test_another_trigger_length_than_the_surrogates_is_refused(
    noise: ProtectConfig, surrogate: str
) -> None:
    config = replace(noise, method="mem", surrogate=surrogate, trigger_words=5)
    with pytest.raises(UsageError, match=r"trigger-words is 5, but surrogate .* was fitted with 3"):
        protect(config)


@pytest.mark.parametrize("place", ["", "/protected"])
def test_an_output_in_the_input_is_refused(
    noise: ProtectConfig, corpus: Path, tmp_path: Path, place: str
) -> None:
    source = shutil.copytree(corpus, tmp_path / "in")
    config = replace(noise, input=str(source), output=f"{source}{place}")
    with pytest.raises(UsageError, match="inside the input"):
        protect(config)
    assert sorted(p.name for p in source.iterdir()) == sorted(p.name for p in corpus.iterdir())


def test_the_output_of_another_configuration_is_refused_by_name(noise: ProtectConfig) -> None:
    protect(noise)
    before = digests(Path(noise.output))
    with pytest.raises(UsageError, match=r"\(mem\.epsilon: 8 then, 4 now\); use the same"):
        protect(replace(noise, epsilon=4))
    assert digests(Path(noise.output)) == before


def test_settings_that_do_not_change_the_bytes_do_not_change_the_configuration(
    noise: ProtectConfig,
) -> None:
    protect(noise)
    assert protect(replace(noise, io_threads=1, owner="x", max_quarantined=0.5)).exit_code == 0


def test_a_folder_with_foreign_shards_is_refused(noise: ProtectConfig, corpus: Path) -> None:
    shutil.copytree(corpus, noise.output)
    with pytest.raises(UsageError, match="no plan"):
        protect(noise)


def test_a_rerun_with_another_input_list_is_refused(
    noise: ProtectConfig, corpus: Path, tmp_path: Path
) -> None:
    source = shutil.copytree(corpus, tmp_path / "in")
    config = replace(noise, input=str(source))
    protect(config)
    shutil.copy(source / "shard-000.tar", source / "shard-004.tar")
    with pytest.raises(UsageError, match="differs now in 1, first shard-004"):
        protect(config)


def test_a_shard_that_changed_after_it_was_protected_is_noticed(
    noise: ProtectConfig, corpus: Path, tmp_path: Path
) -> None:
    source = shutil.copytree(corpus, tmp_path / "in")
    config = replace(noise, input=str(source))
    protect(config)
    shutil.copy(source / "shard-000.tar", source / "shard-001.tar")
    with pytest.raises(UsageError, match=r"shard-001\.tar has changed since it was protected"):
        protect(config)


def test_a_bad_shard_fails_alone_and_is_done_after_its_repair(
    noise: ProtectConfig, corpus: Path, tmp_path: Path
) -> None:
    source = shutil.copytree(corpus, tmp_path / "in")
    whole = (source / "shard-001.tar").read_bytes()
    (source / "shard-001.tar").write_bytes(whole[:30_000])
    config = replace(noise, input=str(source))
    summary = protect(config)
    output = Path(noise.output)
    assert (summary.exit_code, summary.committed, list(summary.failed)) == (3, 3, ["shard-001"])
    assert "truncated" in summary.failed["shard-001"]
    assert (kept(output) / "_ledger" / "shard-001.failed.json").exists()
    assert (output / "README.md").exists()
    assert not (output / "_SUCCESS").exists()
    assert not (output / "shard-001.tar").exists()
    report = run_status(str(output))
    assert (report.complete, report.committed, list(report.failed)) == (False, 3, ["shard-001"])

    (source / "shard-001.tar").write_bytes(whole)
    assert protect(config).exit_code == 0
    assert (output / "_SUCCESS").exists()
    assert not (kept(output) / "_ledger" / "shard-001.failed.json").exists()
    assert protect(config).exit_code == 0


def test_too_many_quarantined_samples_end_in_exit_code_3(noise: ProtectConfig) -> None:
    config = replace(noise, max_pixels=47 * 47)
    summary = protect(config)
    assert (summary.exit_code, summary.quarantined) == (3, 80)
    summary = protect(replace(config, max_quarantined=1.0))
    assert summary.exit_code == 3
    assert "nothing is protected: 80 samples in 4 shards" in str(summary)


def test_a_lost_record_is_made_again_and_success_is_withdrawn_meanwhile(
    noise: ProtectConfig,
) -> None:
    protect(noise)
    output = Path(noise.output)
    before = digests(output)
    (kept(output) / "_ledger" / "shard-002.json").unlink()
    (output / "shard-002.tar").write_bytes(b"half")
    (output / ".shard-002.tar.0123456789ab.tmp").write_bytes(b"left by a killed run")
    assert protect(noise).exit_code == 0
    assert digests(output) == before
    assert not list(output.glob(".*.tmp"))


def test_more_workers_than_shards_are_told(
    noise: ProtectConfig, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("ray")
    protect(replace(noise, dry_run=True, workers=5, executor="ray"))
    assert "5 workers, but 4 shards" in caplog.text
    assert "--samples-per-shard" in caplog.text
    caplog.clear()
    protect(replace(noise, dry_run=True, workers=4, executor="ray"))
    assert "workers, but" not in caplog.text


def test_a_dry_run_writes_nothing_and_its_estimate_is_near(noise: ProtectConfig) -> None:
    asked = replace(noise, dry_run=True, worker_price=2.0)
    estimated = protect(asked)
    assert not Path(noise.output).exists()
    started = time.monotonic()
    protect(noise)
    taken = time.monotonic() - started
    # A machine that others use gives no better.
    assert 0.1 * taken < estimated.estimated_worker_seconds < 10 * taken
    assert estimated.estimated_seconds == estimated.estimated_worker_seconds
    assert estimated.estimated_cost == 2.0 * estimated.estimated_worker_seconds / 3600
    assert " s of one worker, which cost" in str(estimated)
    real = sum(path.stat().st_size for path in Path(noise.output).rglob("shard-*"))
    assert estimated.shards == 4
    assert 60 <= estimated.samples <= 110
    assert estimated.estimated_bytes is not None
    assert 0.6 * real < estimated.estimated_bytes < 1.5 * real


def test_status_knows_no_run_where_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no run"):
        run_status(str(tmp_path))


def test_status_counts_a_complete_run(noise: ProtectConfig) -> None:
    protect(noise)
    report = run_status(noise.output)
    assert (report.complete, report.committed, report.protected) == (True, 4, 80)
    assert report.samples_per_second is not None
    assert report.samples_per_second > 0
    assert json.loads(report.to_json())["bytes"] == sum(
        path.stat().st_size for path in Path(noise.output).glob("*.tar")
    )


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_a_run_with_their_code_and_it_can_be_resumed(
    build_shards: object, tmp_path: Path, signum: int, code: int
) -> None:
    source = build_shards(tmp_path / "in", shards=60, samples=10)  # type: ignore[operator]
    output = tmp_path / "out"
    arguments = ["protect", str(source), str(output), "--method", "random", "--executor", "local"]
    command = [sys.executable, "-m", "unlearnable", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not list(kept(output).glob("_ledger/*.json")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signum)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "same command" in out + err
    assert not (output / "_SUCCESS").exists()
    assert 0 < len(list(kept(output).glob("_ledger/*.json"))) < 60
    config = ProtectConfig(str(source), str(output), method="random", executor="local")
    assert protect(config).exit_code == 0
