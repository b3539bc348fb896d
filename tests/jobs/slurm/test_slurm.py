"""Arrays on a real Slurm cluster: no shard twice, nothing lost, exit codes by the ledger."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from runs import kept
from slurm_cluster import job_state, slurm_cluster, wait_for_job, why_not

from unlearnable.pipeline.execution.config import ProtectConfig
from unlearnable.pipeline.execution.protect import protect

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "can run"),
]

SUBMIT = Path(__file__).resolve().parents[3] / "jobs" / "slurm" / "submit.sh"
SHARDS = 9
ALL_ONCE = Counter({f"shard-{n:03d}": 1 for n in range(SHARDS)})


@pytest.fixture(scope="module")
def cluster() -> Iterator[dict[str, str]]:
    with slurm_cluster() as environment:
        tools = str(Path(sys.executable).parent)
        yield {**environment, "PATH": f"{tools}:{environment['PATH']}"}


@pytest.fixture(scope="module")
def source(build_shards: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("slurm") / "in"
    return build_shards(folder, shards=SHARDS, samples=24, size=256)


@pytest.fixture(scope="module")
def undisturbed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("undisturbed") / "out"
    protect(ProtectConfig(str(source), str(output), method="random"))
    return output


def submit(cluster: dict[str, str], folder: Path, *line: str) -> subprocess.CompletedProcess[str]:
    """Run ``submit.sh`` in ``folder``, where the logs of the jobs go."""
    folder.mkdir(exist_ok=True)
    return subprocess.run(
        [str(SUBMIT), *line, "--method", "random"],
        env=cluster, cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip


def slurm(cluster: dict[str, str], *line: str) -> None:
    subprocess.run(line, env=cluster, check=True)


def jobs_of(done: subprocess.CompletedProcess[str]) -> tuple[str, str]:
    """Numbers of the array and of the closing job that ``submit.sh`` printed."""
    assert done.returncode == 0, done.stderr
    array, closing = (line.split()[1] for line in done.stdout.splitlines())
    return array, closing


def events(output: Path, kind: str) -> list[dict[str, object]]:
    logs = sorted(kept(output).glob("_log/*.jsonl"))
    read = [json.loads(line) for log in logs for line in log.read_text().splitlines()]
    return [event for event in read if event["event"] == kind]


def begun(output: Path) -> Counter[object]:
    return Counter(event["shard"] for event in events(output, "shard_begun"))


def same_bytes(output: Path, undisturbed: Path) -> bool:
    names = [f"{shard}.tar" for shard in ALL_ONCE] + ["index.json", "_SUCCESS", "README.md"]
    return all((output / n).read_bytes() == (undisturbed / n).read_bytes() for n in names)


def wait_for_shards(output: Path, count: int) -> None:
    end = time.monotonic() + 240
    while len(list(kept(output).glob("_ledger/*.json"))) < count:
        assert time.monotonic() < end
        time.sleep(0.05)


def test_an_array_does_each_shard_once_and_completes_the_output(
    cluster: dict[str, str], source: Path, undisturbed: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    done = submit(cluster, tmp_path / "logs", "--wait", "3%2", str(source), str(output))
    assert done.returncode == 0, done.stderr + done.stdout
    assert begun(output) == ALL_ONCE
    slices = [event["slice"] for event in events(output, "run_begun")]
    assert sorted(map(str, slices)) == ["0/3", "1/3", "2/3", "None"]
    assert slices[-1] is None, "the closing job begins when the array has ended"
    assert same_bytes(output, undisturbed)


def test_a_failed_shard_is_seen_by_who_waits_and_submitting_again_mends_it(
    cluster: dict[str, str], source: Path, undisturbed: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "in"
    shutil.copytree(source, broken)
    shard = broken / "shard-004.tar"
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2])
    line = ("--wait", "2", str(broken), str(tmp_path / "out"))
    done = submit(cluster, tmp_path / "logs", *line)
    assert done.returncode == 3
    array = done.stdout.split()[1]
    codes = [wait_for_job(f"{array}_{task}", cluster) for task in (0, 1)]
    assert codes == ["3:0", "0:0"]
    assert not (tmp_path / "out" / "_SUCCESS").exists()
    shard.write_bytes(whole)
    before = begun(tmp_path / "out")
    assert submit(cluster, tmp_path / "logs", *line).returncode == 0
    assert begun(tmp_path / "out") - before == Counter({"shard-004": 1})


@pytest.mark.parametrize("how", ["out of time", "requeued"])
def test_a_task_that_is_stopped_ends_its_shard_and_goes_on_later(
    how: str, cluster: dict[str, str], source: Path, undisturbed: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    array, closing = jobs_of(submit(cluster, tmp_path / "logs", "1", str(source), str(output)))
    wait_for_shards(output, 2)
    task = f"{array}_0"
    stop = {
        # As Slurm does it near the time limit (--signal=B:USR1@60).
        "out of time": ["scancel", "--batch", "--signal=USR1", task],
        "requeued": ["scontrol", "requeue", task],
    }[how]
    slurm(cluster, *stop)
    assert wait_for_job(task, cluster) == "0:0"
    assert wait_for_job(closing, cluster) == "0:0"
    assert job_state(task, cluster)["Restarts"] == "1"
    endings = [str(event["error"]) for event in events(output, "run_ended")]
    assert ["Interrupted" in ending for ending in endings] == [True, False, False]
    assert begun(output) == ALL_ONCE, "the shard in work was ended, not given up"
    assert same_bytes(output, undisturbed)


def test_a_cancelled_task_stays_so_and_the_closing_job_does_its_shards(
    cluster: dict[str, str], source: Path, undisturbed: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    array, closing = jobs_of(submit(cluster, tmp_path / "logs", "1", str(source), str(output)))
    wait_for_shards(output, 2)
    slurm(cluster, "scancel", f"{array}_0")
    assert wait_for_job(closing, cluster) == "0:0"
    assert job_state(f"{array}_0", cluster)["JobState"] == "CANCELLED"
    assert begun(output) == ALL_ONCE
    assert same_bytes(output, undisturbed)


def test_a_killed_task_loses_nothing(
    cluster: dict[str, str], source: Path, undisturbed: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    array, closing = jobs_of(submit(cluster, tmp_path / "logs", "2", str(source), str(output)))
    wait_for_shards(output, 1)
    lease = next(kept(output).glob("_lease/*.json"))
    os.kill(json.loads(lease.read_text())["pid"], signal.SIGKILL)
    assert wait_for_job(closing, cluster) == "0:0"
    codes = [wait_for_job(f"{array}_{task}", cluster) for task in (0, 1)]
    assert sorted(codes) == ["0:0", "137:0"]
    assert same_bytes(output, undisturbed)


@pytest.mark.parametrize("tasks", ["0", "x", "3%0", "3%", ""])
def test_submit_refuses_what_is_no_number_of_tasks(tasks: str, tmp_path: Path) -> None:
    line = [str(SUBMIT), tasks, "in", "out"]
    done = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert "usage: submit.sh [--wait] N[%AT_ONCE] INPUT OUTPUT" in done.stderr
