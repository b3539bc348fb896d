"""The queue: attempts are counted by shard, and only deaths are tried again."""

from __future__ import annotations

import errno
from functools import partial

import pytest

from unlearnable.pipeline.data.ledger import LedgerRecord
from unlearnable.pipeline.data.plan import ShardInput
from unlearnable.pipeline.errors import UsageError
from unlearnable.pipeline.execution.driver.schedule import (
    MAX_LOSSES,
    Outcome,
    ShardTask,
    StorageFullError,
    TaskQueue,
    attempt,
    failed_record,
)
from unlearnable.pipeline.execution.driver.stop import StopFlag
from unlearnable.pipeline.execution.executors.local import run_local


def queue_of(*names: str) -> TaskQueue:
    shards = [ShardInput(name, f"/in/{name}.tar") for name in names]
    return TaskQueue(shards, "/out", "/out-record", config_hash="c", max_attempts=3)


class Worker:
    """Commits every shard, or raises ``error`` in the first ``times`` attempts at shard ``b``."""

    def __init__(self, error: Exception, times: int) -> None:
        self.error, self.times, self.seen = error, times, []

    def run(self, task: ShardTask) -> LedgerRecord:
        self.seen.append((task.shard.name, task.attempt))
        if task.shard.name == "b" and task.attempt <= self.times:
            raise self.error
        return LedgerRecord(task.shard.name, "committed", "c", attempts=task.attempt)


def test_an_unexpected_error_is_tried_again_up_to_the_limit() -> None:
    worker = Worker(RuntimeError("flaky"), times=2)
    records = list(run_local(worker, queue_of("a", "b", "c"), StopFlag()))
    assert [(r.shard, r.status, r.attempts) for r in records] == [
        ("a", "committed", 1),
        ("b", "committed", 3),
        ("c", "committed", 1),
    ]


def test_a_shard_that_never_succeeds_fails_alone() -> None:
    worker = Worker(RuntimeError("always"), times=99)
    records = {r.shard: r for r in run_local(worker, queue_of("a", "b", "c"), StopFlag())}
    assert [records[n].status for n in "abc"] == ["committed", "failed", "committed"]
    assert records["b"].attempts == 3
    assert "always" in (records["b"].error or "")


def test_a_data_error_is_final_at_once() -> None:
    queue = queue_of("a")
    task = queue.take()
    assert task is not None
    record = failed_record(task, "c", Outcome(error="truncated"))
    assert queue.settle(task, Outcome(record=record)) is record
    assert len(queue) == 0


def test_a_preemption_does_not_count() -> None:
    queue = queue_of("a")
    for _ in range(10):
        task = queue.take()
        assert task is not None
        assert task.attempt == 1
        queue.give_back(task)


def test_usage_errors_end_the_run() -> None:
    worker = Worker(UsageError("the surrogate is another"), times=99)
    with pytest.raises(UsageError, match="another"):
        list(run_local(worker, queue_of("a", "b", "c"), StopFlag()))
    assert ("c", 1) not in worker.seen


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_full_disk_ends_the_run_with_its_own_error(wrapped: bool) -> None:
    error: Exception = OSError(errno.ENOSPC, "No space left on device", "/out/b.tar")
    if wrapped:
        cause, error = error, UsageError("cannot write /out/b.tar: no space left")
        error.__cause__ = cause
    worker = Worker(error, times=99)
    with pytest.raises(StorageFullError, match=r"b is not committed.*b\.tar") as raised:
        list(run_local(worker, queue_of("a", "b", "c"), StopFlag()))
    assert raised.value.exit_code == 3


def test_outcomes_cross_process_borders() -> None:
    import pickle

    worker = Worker(UsageError("no surrogate"), times=9)
    outcome = attempt(
        partial(lambda w: w, worker), ShardTask(ShardInput("b", "/in/b.tar"), "/out", "/out-record")
    )
    again = pickle.loads(pickle.dumps(outcome))  # noqa: S301 - written two words before
    assert isinstance(again.fatal, UsageError)
    assert str(again.fatal) == "no surrogate"


def test_a_lost_node_is_no_attempt_unless_that_goes_on_and_on() -> None:
    queue = queue_of("a")
    losses = 0
    while (task := queue.take()) is not None:
        record = queue.lost(task, "its node was lost")
        losses += 1
        assert losses < 100
    assert record is not None
    assert record.status == "failed"
    assert record.error == "3 attempts: its node was lost"
    # Each attempt may be lost ten times; those after that count.
    assert losses == MAX_LOSSES + 3
