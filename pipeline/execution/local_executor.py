"""Run shards one after the other in this process."""

from __future__ import annotations

from collections.abc import Generator

from ..data.ledger import LedgerRecord
from .schedule import TaskQueue, Worker, attempt
from .stop import StopFlag


def run_local(worker: Worker, queue: TaskQueue, stop: StopFlag) -> Generator[LedgerRecord]:
    """Yield the final record of every shard of ``queue``."""
    while (task := queue.take()) is not None:
        stop.check()
        record = queue.settle(task, attempt(lambda: worker, task))
        if record is not None:
            yield record
