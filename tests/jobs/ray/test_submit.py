"""`unlearnable submit` to the job server of a real head, which asks for a token."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from processes import below
from ray_head import RayHead, ray_head
from runs import kept

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(1200)]

SHARDS = 9
ALL_ONCE = Counter({f"shard-{n:03d}": 1 for n in range(SHARDS)})
RUNTIME_ENV = Path(__file__).resolve().parents[3] / "jobs" / "ray" / "runtime-env.yaml"


@pytest.fixture(scope="module")
def head() -> Iterator[RayHead]:
    pytest.importorskip("ray")
    with ray_head() as started:
        yield started


@pytest.fixture(scope="module")
def source(build_shards: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ray") / "in"
    return build_shards(folder, shards=SHARDS, samples=40, size=256)


def protect(source: Path, output: Path) -> list[str]:
    fixed = ["--method", "random", "--executor", "ray", "--grace-seconds", "30"]
    return ["protect", str(source), str(output), *fixed]


def submit(head: RayHead, log: Path, *command: str) -> subprocess.Popen[bytes]:
    line = [sys.executable, "-m", "unlearnable", "submit", "--address", head.jobs, "--", *command]
    with log.open("ab") as file:
        return subprocess.Popen(line, env=head.environment, stdout=file, stderr=file)


def ray(head: RayHead, *line: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ray.scripts.scripts", *line, "--address", head.jobs]
    return subprocess.run(
        command, env=head.environment, capture_output=True, text=True, check=False
    )


def wait_for(what: Callable[[], object], process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 300
    while not what():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.05)


def some_committed(output: Path) -> Callable[[], bool]:
    return lambda: len(list(kept(output).glob("_ledger/*.json"))) >= 2


def job_of(log: Path) -> str:
    found = re.search(r"submitted as job (\S+)", log.read_text())
    assert found
    return found.group(1)


def begun(output: Path) -> Counter[object]:
    lines = [
        line for log in kept(output).glob("_log/*.jsonl") for line in log.read_text().splitlines()
    ]
    events = map(json.loads, lines)
    return Counter(e["shard"] for e in events if e["event"] == "shard_begun")


def test_a_job_that_ends_well(head: RayHead, source: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = submit(head, log, *protect(source, tmp_path / "out"))
    wait_for(lambda: "of 9 shards" in log.read_text(), process, log)
    assert not (tmp_path / "out" / "_SUCCESS").exists(), "the log is followed, not shown at the end"
    assert process.wait(300) == 0
    text = log.read_text()
    assert "9 of 9 shards, 360 of 360 samples protected" in text
    assert "the job is SUCCEEDED with exit code 0" in text
    assert (tmp_path / "out" / "_SUCCESS").exists()
    assert begun(tmp_path / "out") == ALL_ONCE


def test_the_dashboard_names_the_shards_below_their_actors(
    head: RayHead, source: Path, tmp_path: Path
) -> None:
    log, output = tmp_path / "log", tmp_path / "out"
    process = submit(head, log, *protect(source, output), "--workers", "2")
    assert process.wait(300) == 0, log.read_text()

    def listed(kind: str) -> list[dict[str, str]]:
        line = ("list", kind, "--format", "json", "--detail", "--limit", "1000")
        found: list[dict[str, str]] = json.loads(ray(head, *line).stdout)
        return found

    ours = [a for a in listed("actors") if a["class_name"] == "ShardActor"]
    newest = max(a["job_id"] for a in ours)
    workers = {a["actor_id"]: a["repr_name"] for a in ours if a["job_id"] == newest}
    assert sorted(workers.values()) == ["worker-1", "worker-2"]
    runs = [t for t in listed("tasks") if t["func_or_class_name"] == "ShardActor.run"]
    states = {t["name"]: t["state"] for t in runs if t["actor_id"] in workers}
    assert states == {f"ShardActor.run {shard}": "FINISHED" for shard in ALL_ONCE}


def test_a_failed_shard_gives_three_where_rays_own_command_gives_one(
    head: RayHead, source: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "in"
    shutil.copytree(source, broken)
    shard = broken / "shard-004.tar"
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2])
    log = tmp_path / "log"
    command = protect(broken, tmp_path / "out")
    assert submit(head, log, *command).wait(300) == 3
    assert "failed: shard-004" in log.read_text()
    environment = f"--runtime-env={RUNTIME_ENV}"
    plain = ray(head, "job", "submit", environment, "--", "python", "-m", "unlearnable", *command)
    assert plain.returncode == 1
    shard.write_bytes(whole)
    assert submit(head, log, "retry", str(tmp_path / "out"), "--executor", "ray").wait(300) == 0
    assert (tmp_path / "out" / "_SUCCESS").exists()


@pytest.mark.parametrize("who", ["the cluster", "the submitter"])
def test_a_job_that_is_stopped_ends_its_shards_and_goes_on_later(
    who: str, head: RayHead, source: Path, tmp_path: Path
) -> None:
    log, output = tmp_path / "log", tmp_path / "out"
    process = submit(head, log, *protect(source, output))
    wait_for(some_committed(output), process, log)
    if who == "the cluster":
        assert ray(head, "job", "stop", job_of(log)).returncode == 0
    else:
        process.send_signal(signal.SIGTERM)
    assert process.wait(300) == 143, log.read_text()
    assert "the job is STOPPED" in log.read_text()
    assert not (output / "_SUCCESS").exists()
    assert list(kept(output).glob("_lease/*")) == [], "the driver ended by itself"
    left = SHARDS - len(list(kept(output).glob("_ledger/*.json")))
    assert 0 < left < SHARDS
    assert submit(head, log, *protect(source, output)).wait(300) == 0
    assert begun(output).keys() == ALL_ONCE.keys()
    assert (output / "_SUCCESS").exists()


def test_a_submitter_that_died_finds_its_job_again(
    head: RayHead, source: Path, tmp_path: Path
) -> None:
    log, output = tmp_path / "log", tmp_path / "out"
    process = submit(head, log, *protect(source, output))
    wait_for(some_committed(output), process, log)
    process.kill()
    process.wait()
    again = tmp_path / "again"
    assert submit(head, again, *protect(source, output)).wait(300) == 0
    assert f"runs as job {job_of(log)} already" in again.read_text()
    assert "submitted" not in again.read_text()
    assert begun(output) == ALL_ONCE


def test_of_a_driver_that_was_killed_the_ledger_tells(
    head: RayHead, source: Path, tmp_path: Path
) -> None:
    log, output = tmp_path / "log", tmp_path / "out"
    process = submit(head, log, *protect(source, output))
    wait_for(some_committed(output), process, log)
    (lease,) = kept(output).glob("_lease/*.json")
    os.kill(json.loads(lease.read_text())["pid"], signal.SIGKILL)
    assert process.wait(300) == 3
    assert re.search(r"by its ledger: [2-8] of 9 shards", log.read_text())
    assert submit(head, log, *protect(source, output)).wait(300) == 0


def test_other_commands_end_as_they_do_here(head: RayHead, source: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert submit(head, log, "verify", str(source)).wait(300) == 2
    assert submit(head, log, *protect(source, tmp_path / "out"), "--dry-run").wait(300) == 0
    assert "Nothing was written" in log.read_text()


def test_a_wrong_token_is_refused_with_the_remedy(head: RayHead, tmp_path: Path) -> None:
    log = tmp_path / "log"
    environment = {**head.environment, "RAY_AUTH_TOKEN": "wrong"}
    stranger = RayHead(head.gcs, head.jobs, head.folder, environment)
    assert submit(stranger, log, *protect(tmp_path / "in", tmp_path / "out")).wait(300) == 2
    assert "RAY_AUTH_TOKEN" in log.read_text()


def test_of_a_cluster_that_is_lost_the_ledger_tells(source: Path, tmp_path: Path) -> None:
    log, output = tmp_path / "log", tmp_path / "out"
    with ray_head() as doomed:
        process = submit(doomed, log, *protect(source, output))
        wait_for(some_committed(output), process, log)
        for each in below(doomed.processes[0].pid):
            os.kill(each.pid, signal.SIGKILL)
        assert process.wait(300) == 3
    assert "the job is LOST" in log.read_text()
    assert not (output / "_SUCCESS").exists()
