"""Which shard is next, how often it was tried and when it is given up, for every executor."""

from __future__ import annotations

import errno
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from ..data.ledger import LedgerRecord
from ..data.plan import ShardInput
from ..errors import UnlearnableError
from .run_log import RunLog

log = logging.getLogger(__name__)


class StorageFullError(UnlearnableError):
    """No room is left: disk, quota or file size; the run ends and can be resumed in more room."""

    exit_code = 3


@dataclass(frozen=True)
class ShardTask:
    """One attempt at one shard.

    Attributes:
        shard: the input shard.
        output: URL of the output directory.
        attempt: 1 for the first.
    """

    shard: ShardInput
    output: str
    attempt: int = 1


class Worker(Protocol):
    """Computes one shard; knows of no other and of no scheduler."""

    def run(self, task: ShardTask) -> LedgerRecord:
        """Process and commit the shard of ``task``."""
        ...


@dataclass(frozen=True)
class Outcome:
    """What became of an attempt; small and always picklable.

    Attributes:
        record: the shard's end: committed, or failed by its data.
        error: why there is none, when another attempt may help.
        fatal: why no shard of this run can succeed.
    """

    record: LedgerRecord | None = None
    error: str = ""
    fatal: UnlearnableError | None = None


def attempt(get_worker: Callable[[], Worker], task: ShardTask) -> Outcome:
    """Run ``task`` and sort what it raises: nothing but an interruption leaves here.

    Args:
        get_worker: returns the worker, making it on the first call.
        task: what to run.
    """
    try:
        return Outcome(record=get_worker().run(task))
    except Exception as error:  # whatever it is, other shards go on
        if is_storage_full(error):
            return Outcome(
                fatal=StorageFullError(f"shard {task.shard.name} is not committed: {error}")
            )
        if isinstance(error, UnlearnableError):
            return Outcome(fatal=error)
        log.exception("shard %s, attempt %d", task.shard.name, task.attempt)
        return Outcome(error=f"{type(error).__name__}: {error}")


def is_storage_full(error: BaseException) -> bool:
    """Tell whether ``error`` or what it was raised from is a lack of room to write."""
    causes = (error, error.__cause__)
    return any(
        isinstance(e, OSError) and e.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
        for e in causes
    )


class TaskQueue:
    """The shards that wait, in plan order; those tried before come first."""

    def __init__(
        self,
        shards: Sequence[ShardInput],
        output: str,
        *,
        config_hash: str,
        max_attempts: int = 3,
        run_log: RunLog | None = None,
    ) -> None:
        self._waiting = deque(ShardTask(shard, output) for shard in shards)
        self._config_hash = config_hash
        self._max_attempts = max_attempts
        self._log = run_log

    def __len__(self) -> int:
        return len(self._waiting)

    def take(self) -> ShardTask | None:
        """Return the next task, None when none waits."""
        task = self._waiting.popleft() if self._waiting else None
        if task is not None and self._log is not None:
            self._log.event("shard_begun", shard=task.shard.name, attempt=task.attempt)
        return task

    def give_back(self, task: ShardTask) -> None:
        """Take ``task`` back, which was never begun or was ended by a preemption."""
        self._waiting.appendleft(task)
        if self._log is not None:
            self._log.event("shard_returned", shard=task.shard.name, attempt=task.attempt)

    def settle(self, task: ShardTask, outcome: Outcome) -> LedgerRecord | None:
        """Return the shard's final record, or None when it waits for another attempt.

        Raises:
            UnlearnableError: the outcome is fatal for the run.
        """
        if outcome.fatal is not None:
            raise outcome.fatal
        record = outcome.record or self._another_attempt(task, outcome.error)
        if self._log is not None:
            self._log.ended(task.attempt, record, task.shard.name, outcome.error)
        return record

    def _another_attempt(self, task: ShardTask, error: str) -> LedgerRecord | None:
        """Return the record of a shard that is given up, None when it waits again."""
        log.warning("shard %s, attempt %d of %d: %s",
                    task.shard.name, task.attempt, self._max_attempts, error)  # fmt: skip
        if task.attempt < self._max_attempts:
            self._waiting.appendleft(replace(task, attempt=task.attempt + 1))
            return None
        return failed_record(task, self._config_hash, f"{task.attempt} attempts: {error}")


def failed_record(task: ShardTask, config_hash: str, error: str) -> LedgerRecord:
    """Return the record of a shard that was given up."""
    source = {"url": task.shard.url, "size": task.shard.size, "etag": task.shard.etag}
    return LedgerRecord(
        shard=task.shard.name,
        status="failed",
        config_hash=config_hash,
        input=source,
        attempts=task.attempt,
        timings={"finished": time.time()},
        error=error,
    )
