"""`status` at 3 a.m.: a shard that failed inside the optimiser tells where, in one command."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from runs import events, harmful, kept

from unlearnable.jobs.cli import main
from unlearnable.pipeline.data.ledger import read_record
from unlearnable.pipeline.execution.config import ProtectConfig
from unlearnable.pipeline.execution.driver.lease import lease_output
from unlearnable.pipeline.execution.driver.stop import StopFlag
from unlearnable.pipeline.execution.protect import protect

LINE = 'raise ZeroDivisionError("the optimiser broke down")'


def broken_run(corpus: Path, output: Path, *options: str) -> None:
    line = ("protect", str(corpus), str(output), "--method", "random", "--device", "cpu", *options)
    harm = {"shard-001": "break"}
    done = subprocess.run(harmful(harm, *line), capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr


@pytest.mark.parametrize("executor", ["local", pytest.param("ray", marks=pytest.mark.ray)])
def test_a_shard_that_fails_in_the_optimiser_leaves_its_traceback(
    executor: str,
    corpus: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if executor == "ray":
        monkeypatch.setenv("RAY_ADDRESS", request.getfixturevalue("ray_cluster"))
    output = tmp_path / "out"
    broken_run(corpus, output, "--executor", executor, "--max-attempts", "2")
    record = read_record(str(kept(output)), "shard-001")
    assert record is not None
    assert (record.status, record.attempts) == ("failed", 2)
    assert record.error == "2 attempts: ZeroDivisionError: the optimiser broke down"
    assert LINE in str(record.traceback)
    assert "shard_worker.py" in str(record.traceback)
    ended = [e for e in events(output) if e["event"] == "shard_ended" and e["shard"] == "shard-001"]
    assert len(ended) == 2
    assert all(LINE in event["traceback"] for event in ended)

    assert main(["status", str(output)]) == 0
    told = capsys.readouterr().out
    assert "failed: shard-001: 2 attempts: ZeroDivisionError" in told
    (log,) = (kept(output) / "_log").iterdir()
    assert f"log: {log}" in told
    assert main(["status", str(output), "--shard", "shard-001"]) == 0
    told = capsys.readouterr().out
    for part in ("shard-001: failed, attempts 2", "process", LINE, str(corpus / "shard-001.tar")):
        assert part in told
    assert main(["status", str(output), "--shard", "shard-001", "--json"]) == 0
    assert LINE in json.loads(capsys.readouterr().out)["traceback"]


def test_a_shard_that_is_none_or_waits_is_told(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    broken_run(corpus, output, "--executor", "local", "--max-attempts", "1")
    assert main(["status", str(output), "--shard", "nothing"]) == 2
    assert "has no shard nothing" in capsys.readouterr().err
    (kept(output) / "_ledger" / "shard-000.json").unlink()
    assert main(["status", str(output), "--shard", "shard-000"]) == 2
    assert "neither committed nor given up" in capsys.readouterr().err


WATCH = [sys.executable, "-m", "unlearnable", "status", "--watch"]


@pytest.fixture
def output(corpus: Path, tmp_path: Path) -> Path:
    target = tmp_path / "out"
    assert protect(ProtectConfig(str(corpus), str(target), method="random")).exit_code == 0
    return target


def test_watch_is_quiet_on_a_pipe_until_the_run_ends(output: Path) -> None:
    with lease_output(str(kept(output)), "a run at work", StopFlag(), join=False):
        watching = subprocess.Popen([*WATCH, str(output)], stdout=subprocess.PIPE, text=True)
        with pytest.raises(subprocess.TimeoutExpired):
            watching.communicate(timeout=6)
    told, _ = watching.communicate(timeout=60)
    assert watching.returncode == 0
    assert told.count("complete, 4 of 4 shards") == 1
    assert "writing now" not in told
    assert "\x1b" not in told


def test_watch_redraws_a_terminal(output: Path) -> None:
    ours, theirs = pty.openpty()
    wide = os.environ | {"COLUMNS": "250", "LINES": "40"}
    told = ""
    with lease_output(str(kept(output)), "a run at work", StopFlag(), join=False):
        watching = subprocess.Popen([*WATCH, str(output)], stdout=theirs, env=wide)
        os.close(theirs)
        while told.count("writing now") < 2:
            told += os.read(ours, 1 << 16).decode()
    with contextlib.suppress(OSError):
        while more := os.read(ours, 1 << 16).decode():
            told += more
    os.close(ours)
    assert watching.wait(timeout=60) == 0
    assert "F\x1b[J" in told
    assert told.count("complete, 4 of 4 shards") >= 3
    assert "writing now" not in told.rpartition("\x1b[J")[2]
