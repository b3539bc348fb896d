"""Shards that hang or kill their process, in-process and out of it; SIGTERM with a grace."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from harmful_workers import HarmfulWorker

from unlearnable.pipeline.data.ledger import LedgerRecord
from unlearnable.pipeline.data.plan import ShardInput
from unlearnable.pipeline.execution.config import ProtectConfig
from unlearnable.pipeline.execution.driver.schedule import ShardTask, TaskQueue
from unlearnable.pipeline.execution.driver.stop import Interrupted, StopFlag, stop_on_signals
from unlearnable.pipeline.execution.executors.child import run_child
from unlearnable.pipeline.execution.executors.choose import execute
from unlearnable.pipeline.execution.executors.local import run_local

pytestmark = pytest.mark.timeout(900)


def queue_of(*names: str, attempts: int = 2) -> TaskQueue:
    shards = [ShardInput(name, f"/in/{name}.tar") for name in names]
    return TaskQueue(shards, "/out", "/out-record", config_hash="c", max_attempts=attempts)


def test_shards_that_hang_or_kill_fail_alone_and_are_named() -> None:
    queue = queue_of("a", "poison", "b", "hang", "c")
    found = {r.shard: r for r in run_child(HarmfulWorker, queue, StopFlag(), timeout=1.0)}
    assert [found[name].status for name in "abc"] == ["committed"] * 3
    assert {found[name].attempts for name in "abc"} == {1}
    assert found["poison"].error == "2 attempts: the worker process died (SIGKILL)"
    assert found["hang"].error == "2 attempts: no result within 1 s (--shard-timeout)"


def test_a_shard_that_never_answers_ends_in_exit_code_3(corpus: Path, tmp_path: Path) -> None:
    """A named pipe that nobody writes to: its reader waits for ever."""
    source = tmp_path / "in"
    source.mkdir()
    for path in corpus.iterdir():
        (source / path.name).symlink_to(path)
    (source / "shard-001.tar").unlink()
    os.mkfifo(source / "shard-001.tar")
    line = [sys.executable, "-m", "unlearnable", "protect", f"{source}/shard-{{000..003}}.tar"]
    options = ["--method", "random", "--executor", "local", "--max-attempts", "1"]
    options += ["--shard-timeout", "10"]
    done = subprocess.run(
        [*line, str(tmp_path / "out"), *options], capture_output=True, text=True, check=False
    )
    assert done.returncode == 3, done.stderr
    assert "failed: shard-001: 1 attempts: no result within 10 s" in done.stdout
    assert len(list((tmp_path / "out").glob("*.tar"))) == 3


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_whole_group_leaves_the_child_to_its_driver(signum: int) -> None:
    class Signalling(StopFlag):
        def check_now(self) -> None:
            for child in multiprocessing.active_children():
                assert child.pid is not None
                os.kill(child.pid, signum)

    found = list(run_child(HarmfulWorker, queue_of("a", "b"), Signalling(), timeout=60.0))
    assert [(r.status, r.attempts) for r in found] == [("committed", 1)] * 2


def test_no_child_survives_its_driver(tmp_path: Path) -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from harmful_workers import HarmfulWorker\n"
        "from unlearnable.pipeline.data.plan import ShardInput\n"
        "from unlearnable.pipeline.execution.executors.child import run_child\n"
        "from unlearnable.pipeline.execution.driver.schedule import TaskQueue\n"
        "from unlearnable.pipeline.execution.driver.stop import StopFlag\n"
        "if __name__ == '__main__':\n"
        "    shards = [ShardInput('hang', '/h.tar')]\n"
        "    queue = TaskQueue(shards, '/out', '/out-record', config_hash='c')\n"
        "    print('begin', flush=True)\n"
        "    list(run_child(HarmfulWorker, queue, StopFlag(), timeout=9e9))\n"
    )
    (tmp_path / "driver.py").write_text(script)
    support = str(Path(__file__).parents[3] / "support")
    line = [sys.executable, str(tmp_path / "driver.py"), support]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout is not None
        driver.stdout.readline()
        children = Path(f"/proc/{driver.pid}/task/{driver.pid}/children")
        while not (found := children.read_text().split()):
            time.sleep(0.05)
        time.sleep(0.5)
        driver.kill()
    for _ in range(600):
        if not any(is_python(pid) for pid in found):
            return
        time.sleep(0.1)
    pytest.fail("the child lives on")


def is_python(pid: str) -> bool:
    try:
        text = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return b"spawn_main" in text


class Slow:
    """Takes ``seconds`` for a shard, and tells the driver to stop in the first one."""

    def __init__(self, seconds: float, signum: int) -> None:
        self.seconds, self.signum = seconds, signum
        self.ended: list[str] = []

    def run(self, task: ShardTask) -> LedgerRecord:
        if not self.ended:
            threading.Timer(0.1, os.kill, (os.getpid(), self.signum)).start()
        end = time.monotonic() + self.seconds
        while time.monotonic() < end:
            time.sleep(0.01)
        self.ended.append(task.shard.name)
        return LedgerRecord(task.shard.name, "committed", "c")


@pytest.mark.parametrize(
    ("signum", "grace", "done"),
    [
        (signal.SIGTERM, 60.0, ["a"]),
        (signal.SIGTERM, 0.3, []),
        (signal.SIGTERM, 0.0, []),
        (signal.SIGINT, 60.0, []),
    ],
)
def test_a_sigterm_lets_the_shard_in_work_end_within_its_grace(
    signum: int, grace: float, done: list[str]
) -> None:
    worker = Slow(2.0, signum)
    records: list[str] = []
    with pytest.raises(Interrupted) as raised, stop_on_signals(grace) as stop:
        records.extend(r.shard for r in run_local(worker, queue_of("a", "b", "c"), stop))
    assert raised.value.exit_code == 128 + signum
    assert worker.ended == done


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_library_that_swallows_the_signal_does_not_change_the_exit_code(signum: int) -> None:
    """Ray's calls raise a plain KeyboardInterrupt for whatever a handler raised inside them."""

    class Swallowing:
        def run(self, _task: ShardTask) -> LedgerRecord:
            try:
                os.kill(os.getpid(), signum)
                time.sleep(10)
            except KeyboardInterrupt:
                raise KeyboardInterrupt from None
            raise AssertionError

    config = ProtectConfig("in", "out", executor="local")
    queue = queue_of("a")
    with pytest.raises(Interrupted) as raised, stop_on_signals() as stop:
        list(execute(config, Swallowing, queue, stop, gpus_per_worker=0.0))
    assert raised.value.exit_code == 128 + signum


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_ray_ends_a_shard_at_its_deadline_and_keeps_the_others() -> None:
    from unlearnable.pipeline.execution.executors.ray import run_ray

    def make() -> object:
        class Hanging:
            def run(self, task: ShardTask) -> LedgerRecord:
                time.sleep(10_000 if task.shard.name == "hang" else 0.05)
                return LedgerRecord(task.shard.name, "committed", "c", attempts=task.attempt)

        return Hanging()

    queue = queue_of("a", "b", "hang", "c", "d", "e")
    runner: Callable[..., object] = run_ray
    found = runner(make, queue, StopFlag(), workers=2, gpus_per_worker=0.0, timeout=3.0)
    records = {record.shard: record for record in found}  # type: ignore[attr-defined]
    assert records.pop("hang").error == "2 attempts: no result within 3 s (--shard-timeout)"
    assert {(r.status, r.attempts) for r in records.values()} == {("committed", 1)}
    assert len(records) == 5


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_ray_lets_shards_in_work_end_after_a_sigterm() -> None:
    from unlearnable.pipeline.execution.executors.ray import run_ray

    def make() -> object:
        class Slow:
            def run(self, task: ShardTask) -> LedgerRecord:
                time.sleep(1.5)
                return LedgerRecord(task.shard.name, "committed", "c")

        return Slow()

    records: list[LedgerRecord] = []
    names = [str(number) for number in range(20)]
    runner: Callable[..., object] = run_ray

    def take_two_and_signal(stop: StopFlag) -> None:
        found = runner(make, queue_of(*names), stop, workers=2, gpus_per_worker=0.0)
        for record in found:  # type: ignore[attr-defined]
            records.append(record)
            if len(records) == 2:
                os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted) as raised, stop_on_signals(60.0) as stop:
        take_two_and_signal(stop)
    assert raised.value.exit_code == 143
    # Both actors ended what they had begun, and nothing that only waited was begun.
    assert 2 <= len(records) <= 4
