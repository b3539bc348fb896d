"""The Ray executor: the same bytes as in-process, and deaths that cost one attempt of one shard."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
import tracemalloc
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest
from published import BATCH, fit_published, write_corpus
from runs import Digests, digests

from unlearnable.pipeline.data.ledger import LedgerRecord
from unlearnable.pipeline.data.plan import ShardInput
from unlearnable.pipeline.errors import UsageError
from unlearnable.pipeline.execution.config import ProtectConfig
from unlearnable.pipeline.execution.driver.schedule import ShardTask, TaskQueue, Worker
from unlearnable.pipeline.execution.driver.stop import StopFlag
from unlearnable.pipeline.execution.protect import protect

pytestmark = [pytest.mark.timeout(900), pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


def of_each_executor(base: ProtectConfig, folder: Path) -> list[Digests]:
    """Run in-process, on one Ray actor and on two; return what each has written."""
    found = []
    for executor, workers in (("local", 1), ("ray", 1), ("ray", 2)):
        output = folder / f"{executor}{workers}"
        config = replace(base, output=str(output), executor=executor, workers=workers)  # type: ignore[arg-type]
        assert protect(config).exit_code == 0
        found.append(digests(output))
    return found


def test_local_and_ray_with_one_and_two_workers_give_equal_bytes(
    corpus: Path, surrogate: str, tmp_path: Path
) -> None:
    base = ProtectConfig(str(corpus), "", surrogate=surrogate, batch_size=8, steps=1, device="cpu")
    found = of_each_executor(base, tmp_path)
    assert len(found[0]) == 8
    assert found[0] == found[1] == found[2]


@pytest.mark.slow
def test_the_published_schedule_gives_equal_bytes_with_one_and_two_actors(tmp_path: Path) -> None:
    source = write_corpus(tmp_path / "in")
    fit_published(source, tmp_path / "surrogate")
    base = ProtectConfig(
        str(source), "", surrogate=str(tmp_path / "surrogate"), batch_size=BATCH, device="cpu"
    )
    found = of_each_executor(base, tmp_path)
    assert len(found[0]) == 6
    assert found[0] == found[1] == found[2]


def queue_of(count: int) -> TaskQueue:
    shards = [ShardInput(f"s{n}", f"/in/s{n}.tar") for n in range(count)]
    return TaskQueue(shards, "/out", "/out-record", config_hash="c", max_attempts=3)


def test_a_shard_that_kills_its_process_each_time_fails_alone() -> None:
    from unlearnable.pipeline.execution.executors.ray import run_ray

    def make() -> Worker:
        class Poisoned:
            def run(self, task: ShardTask) -> LedgerRecord:
                time.sleep(0.05)
                if task.shard.name == "s2":
                    os.kill(os.getpid(), signal.SIGKILL)
                return LedgerRecord(task.shard.name, "committed", "c", attempts=task.attempt)

        return Poisoned()

    found = run_ray(make, queue_of(8), StopFlag(), workers=2, gpus_per_worker=0.0)
    records = {record.shard: record for record in found}
    assert len(records) == 8
    assert records["s2"].status == "failed"
    assert records["s2"].attempts == 3
    assert "the actor died" in (records["s2"].error or "")
    # Those that waited behind it on the same actor were not begun: no attempt of theirs was lost.
    assert {r.attempts for r in records.values() if r.shard != "s2"} == {1}
    assert {r.status for r in records.values() if r.shard != "s2"} == {"committed"}


def test_an_actor_has_one_shard_running_and_at_most_one_queued() -> None:
    from unlearnable.pipeline.execution.executors.ray import RayExecutor

    def make() -> Worker:
        class Quick:
            def run(self, task: ShardTask) -> LedgerRecord:
                return LedgerRecord(task.shard.name, "committed", "c")

        return Quick()

    executor = RayExecutor(make, 2, 0.0)
    queue = queue_of(50)
    most = 0

    class Counting(TaskQueue):
        def take(self) -> ShardTask | None:
            nonlocal most
            task = super().take()
            most = max(most, len(self.in_flight.entries()))
            return task

    queue.__class__ = Counting
    for _ in executor.run(queue, StopFlag()):
        assert max(len(slot.tasks) for slot in executor._slots) <= 2
    executor.close()
    # The second actor may have started too late to get any.
    assert 2 <= most <= 4


def test_a_task_has_the_name_of_its_shard() -> None:
    from unlearnable.pipeline.execution.executors.ray import run_ray

    def make() -> Worker[LedgerRecord]:
        class Telling:
            def run(self, task: ShardTask) -> LedgerRecord:
                import ray

                name = ray.get_runtime_context().get_task_name()
                return LedgerRecord(task.shard.name, "committed", "c", error=name)

        return Telling()

    records = list(run_ray(make, queue_of(3), StopFlag(), workers=1, gpus_per_worker=0.0))
    assert sorted(record.error for record in records) == [
        f"ShardActor.run s{number}" for number in range(3)
    ]


def test_what_no_retry_can_mend_ends_the_run() -> None:
    from unlearnable.pipeline.execution.executors.ray import run_ray

    def make() -> Worker:
        raise UsageError("the surrogate here is another one")

    with pytest.raises(UsageError, match="another one"):
        list(run_ray(make, queue_of(4), StopFlag(), workers=1, gpus_per_worker=0.0))


def scrape() -> str:
    """What the Prometheus endpoints of the cluster's nodes say."""
    import ray

    text = ""
    for node in ray.nodes():
        url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
            text += answer.read().decode()
    return text


def test_prometheus_reads_counters_and_gauges_of_a_run() -> None:
    from unlearnable.pipeline.execution.executors.ray import run_ray

    def make() -> Worker[LedgerRecord]:
        class Mixed:
            def run(self, task: ShardTask) -> LedgerRecord:
                if task.shard.name == "s1" and task.attempt == 1:
                    raise OSError("a moment's trouble")
                if task.shard.name == "s2":
                    return LedgerRecord("s2", "failed", "c", error="truncated")
                return LedgerRecord(
                    task.shard.name, "committed", "c", samples=10, retries=2, loss=0.5
                )

        return Mixed()

    shards = [ShardInput(f"s{n}", f"/in/s{n}.tar") for n in range(6)]
    output = f"/out-{os.getpid()}"
    queue = TaskQueue(shards, output, output, config_hash="c")
    assert len(list(run_ray(make, queue, StopFlag(), workers=1, gpus_per_worker=0.0))) == 6
    expected = {
        "shards_done": 5,
        "shards_failed": 1,
        "samples": 50,
        "retries": 1,
        "storage_retries": 10,
        "loss": 0.5,
        "queue_depth": 0,
        "workers": 1,
    }
    end = time.monotonic() + 90
    found: dict[str, float] = {}
    while time.monotonic() < end and not expected.items() <= found.items():
        time.sleep(1)
        lines = re.findall(r"^ray_unlearnable_(\w+)\{([^}]*)\} (\S+)$", scrape(), re.MULTILINE)
        found = {
            name.removesuffix("_total"): float(value)
            for name, tags, value in lines
            if f'output="{output}"' in tags
        }
    assert expected.items() <= found.items()
    assert found["samples_per_second"] > 0


def test_metrics_of_a_fast_run_hold_seconds_and_not_shards() -> None:
    from unlearnable.pipeline.execution.executors.ray.metrics import Metrics

    metrics = Metrics(f"/fast-{os.getpid()}")
    record = LedgerRecord("s", "committed", "c", samples=1)
    tracemalloc.start()
    try:
        for _ in range(20_000):
            metrics.ended(record)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 200_000
