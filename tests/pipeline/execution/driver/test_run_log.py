"""The log of a run, and what `status` makes of a ledger while the run goes on."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from runs import kept

from unlearnable.pipeline.data import storage
from unlearnable.pipeline.data.ledger import LedgerRecord, write_record
from unlearnable.pipeline.data.plan import Plan, ShardInput, config_hash, write_plan
from unlearnable.pipeline.execution.config import ProtectConfig
from unlearnable.pipeline.execution.driver import run_log
from unlearnable.pipeline.execution.driver.in_flight import InFlight
from unlearnable.pipeline.execution.driver.lease import lease_output
from unlearnable.pipeline.execution.driver.run_log import RunLog
from unlearnable.pipeline.execution.driver.stop import StopFlag
from unlearnable.pipeline.execution.protect import protect
from unlearnable.pipeline.execution.status import run_status


def events(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_run_tells_of_every_attempt_its_phases_and_its_end(corpus: Path, tmp_path: Path) -> None:
    source = shutil.copytree(corpus, tmp_path / "in")
    (source / "shard-001.tar").write_bytes(b"x" * 5000)
    output = tmp_path / "out"
    config = ProtectConfig(str(source), str(output), method="random", executor="local")
    assert protect(config).exit_code == 3
    [path] = kept(output).glob("_log/*.jsonl")
    found = events(path.read_text())
    assert {event["run"] for event in found} == {path.stem}
    assert (found[0]["event"], found[0]["waiting"], found[0]["executor"]) == (
        "run_begun",
        4,
        "local",
    )
    last = found[-1]
    assert (last["event"], last["committed"], last["failed"], last["error"]) == (
        "run_ended", 3, 1, None
    )  # fmt: skip
    ended = {event["shard"]: event for event in found if event["event"] == "shard_ended"}
    assert len([event for event in found if event["event"] == "shard_begun"]) == 4
    assert ended["shard-001"]["outcome"] == "failed"
    assert "tar archive" in str(ended["shard-001"]["error"])
    good = ended["shard-002"]
    assert (good["outcome"], good["attempt"], good["samples"]) == ("committed", 1, 20)
    assert {"seconds", "optimise", "upload"} <= set(good["phases"])  # type: ignore[call-overload]
    assert [
        event for event in found if event["event"] == "message" and "shard-001" in event["text"]
    ]  # type: ignore[operator]


def test_the_log_may_go_to_a_file_of_its_own(corpus: Path, tmp_path: Path) -> None:
    log = tmp_path / "logs" / "run.jsonl"
    config = ProtectConfig(
        str(corpus), str(tmp_path / "out"), method="random", executor="local", log_file=str(log)
    )
    protect(config)
    protect(replace(config, owner="again"))
    assert [e["event"] for e in events(log.read_text())].count("run_ended") == 2
    assert not (tmp_path / "out" / "_log").exists()


def test_what_writing_a_part_has_to_say_is_in_the_next_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run_log, "_PART_SECONDS", 0.0)
    output = f"memory://{uuid.uuid4().hex}"
    write = storage.write_bytes
    log = RunLog(output, "r")

    def write_at_the_second_attempt(url: str, data: bytes) -> None:
        monkeypatch.setattr(storage, "write_bytes", write)
        log.event("message", text="attempt 2 of 7")
        write(url, data)

    monkeypatch.setattr(storage, "write_bytes", write_at_the_second_attempt)
    with log:
        log.event("shard_begun", shard="a")
    parts = [storage.join(output, "_log", f"r-0000{part}.jsonl") for part in (0, 1)]
    told = [event["event"] for url in parts for event in events(storage.read_bytes(url).decode())]
    assert sorted(told) == ["message", "shard_begun"]


def test_stores_that_cannot_append_get_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_log, "_PART_SECONDS", 0.05)
    output = f"memory://{uuid.uuid4().hex}"
    with RunLog(output, "r") as log:
        for number in range(4):
            log.event("shard_begun", shard=str(number))
            time.sleep(0.04)
    names = storage.list_names(f"{output}/_log")
    assert len(names) > 1
    text = b"".join(storage.read_bytes(f"{output}/_log/{name}") for name in names).decode()
    assert [event["shard"] for event in events(text)] == ["0", "1", "2", "3"]


def test_a_log_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    with RunLog(str(tmp_path), "r", "/dev/full") as log:
        log.event("run_begun")
        log.event("run_ended")
    (tmp_path / "file").write_bytes(b"")
    with RunLog(str(tmp_path), "r", str(tmp_path / "file" / "log")) as log:
        log.event("run_begun")


def made(shard: str, finished: float, seconds: float, **changes: object) -> LedgerRecord:
    timings = {"started": finished - seconds, "finished": finished, "seconds": seconds}
    facts: dict[str, object] = {"config_hash": config_hash({}), "samples": 100, "timings": timings}
    return LedgerRecord(shard, "committed", **{**facts, **changes})  # type: ignore[arg-type]


def test_the_rate_is_that_of_the_last_commits(tmp_path: Path) -> None:
    """Ten shards before a night's pause do not make the ten of this morning look slow."""
    output = str(tmp_path)
    shards = tuple(ShardInput(f"s{n:02d}", f"/in/s{n:02d}.tar") for n in range(30))
    write_plan(output, Plan(shards, {}, config_hash({}), "1"))
    now = time.time()
    for number in range(10):
        write_record(output, made(f"s{number:02d}", now - 40_000 + 60 * number, 50.0))
        write_record(output, made(f"s{number + 10:02d}", now - 100 + 10 * number, 10.0, retries=2))
    write_record(output, made("s05", now - 30_000, 500.0, attempts=3))
    failed = made("s29", now, 1.0, error="truncated", samples=0)
    write_record(output, replace(failed, status="failed"))
    report = run_status(output)
    assert report.samples_per_second == pytest.approx(10.0)
    assert report.seconds_left == pytest.approx(90.0)
    assert report.retries == 20
    assert report.repeated == {"s05": 3}
    assert next(iter(report.slowest)) == "s05"
    text = str(report)
    for part in ("20 of 30", "failed: s29: truncated", "slowest: s05: 500.0 s", "20 storage"):
        assert part in text


def test_status_follows_a_run_while_it_goes_on(
    build_shards: Callable[..., Path], tmp_path: Path
) -> None:
    source = build_shards(tmp_path / "in", shards=30, samples=20)
    output = tmp_path / "out"
    line = [sys.executable, "-m", "unlearnable", "protect", str(source), str(output)]
    with subprocess.Popen([*line, "--method", "random", "--executor", "local"]) as process:
        while len(list(kept(output).glob("_ledger/*.json"))) < 3:
            assert process.poll() is None
            time.sleep(0.02)
        report = run_status(str(output))
        assert f"process {process.pid}" in "".join(report.runs)
        assert 3 <= report.committed <= 30
        assert not report.complete or report.committed == 30
    assert process.returncode == 0
    report = run_status(str(output))
    assert (report.complete, report.committed, report.runs) == (True, 30, [])


def test_status_tells_passes_by_tower_and_whether_the_optimisation_had_to_wait(
    tmp_path: Path,
) -> None:
    output = str(tmp_path)
    shards = tuple(ShardInput(f"s{n}", f"/in/s{n}.tar") for n in range(2))
    write_plan(output, Plan(shards, {}, config_hash({}), "1"))
    assert run_status(output).waited is None
    for number, samples in enumerate((100, 300)):
        times = {"started": 0.0, "finished": 10.0, "seconds": 10.0, "wait_input": number * 1.0}
        record = made(
            f"s{number}",
            0,
            0,
            samples=samples,
            protected=samples,
            timings={**times, "wait_output": 0.5},
            queues={"decoded": 60.0 + number * 20, "optimised": 2.0},
            passes={"image_forward": 3.0, "image_backward": 2.0 * number, "text_forward": 6.0},
        )
        write_record(output, record)
    report = run_status(output)
    assert report.waited == pytest.approx(0.1)
    assert "passes a sample: 2.00 image tower, 2.00 text tower" in str(report)
    assert "waited 10.0% of the time" in str(report)
    assert "stood 70 decoded and 2 optimised samples" in str(report)
    assert json.loads(report.to_json())["queues"] == {"decoded": 70.0, "optimised": 2.0}


def test_status_tells_what_is_in_work_from_the_lease_alone(tmp_path: Path) -> None:
    output = str(tmp_path)
    write_plan(output, Plan((ShardInput("a", "/in/a.tar"),), {}, config_hash({}), "1"))
    in_flight = InFlight()
    in_flight.add("a", 2)
    in_flight.begin("a", "10.0.0.7 process 4711")
    in_flight.beat("a", 120)
    with lease_output(output, config_hash({}), StopFlag(), join=False) as lease:
        lease.show(in_flight)
        lease.hold()
        report = run_status(output)
        assert "in work: a, attempt 2 on 10.0.0.7 process 4711, 0 s, 120 samples" in str(report)
        assert json.loads(report.to_json())["working"][0]["shard"] == "a"
    assert run_status(output).working == []


def test_a_shard_from_which_nothing_comes_is_named_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_flight = InFlight()
    in_flight.add("quick", 1)
    in_flight.begin("quick", "here")
    in_flight.add("slow", 1)
    in_flight.begin("slow", "10.0.0.7 process 4711")
    in_flight.add("queued", 1)
    before = time.time()
    monkeypatch.setattr(time, "time", lambda: before + 400)
    in_flight.beat("quick", 5)
    in_flight.beat("slow", 0)
    in_flight.name_silent()
    in_flight.name_silent()
    [message] = [record.getMessage() for record in caplog.records]
    assert "slow, attempt 1 on 10.0.0.7 process 4711, 400 s, nothing done for 400 s" in message
    assert "may hang" in message
