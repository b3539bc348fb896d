"""Which shard is next, how often it was tried and when it is given up, for every executor."""

import errno
import logging
import os
import socket
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

from ...data.ledger import LedgerRecord
from ...data.plan import ShardInput
from ...errors import UnlearnableError
from .in_flight import InFlight
from .run_log import RunLog

log = logging.getLogger(__name__)

# A shard that takes its node along each time has to end like one that kills its process.
MAX_LOSSES = 10

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class StorageFullError(UnlearnableError):
    """No room is left: disk, quota or file size; the run ends and can be resumed in more room."""

    exit_code = 3


@dataclass(frozen=True)
class ShardTask:
    """One attempt at one shard.

    Attributes:
        shard: the input shard.
        output: URL of the output directory.
        record: URL of its record.
        attempt: 1 for the first.
        losses: how often the node under it was lost; that is no attempt.
    """

    shard: ShardInput
    output: str
    record: str
    attempt: int = 1
    losses: int = 0


class Worker(Protocol[R_co]):
    """Works on one shard at a time; knows of no other and of no scheduler."""

    def run(self, task: ShardTask) -> R_co:
        """Process the shard of ``task``; return what is kept of it, which is small."""
        ...


@dataclass(frozen=True)
class Outcome(Generic[R]):
    """What became of an attempt; small and always picklable.

    Attributes:
        record: the shard's end; of a run that protects: committed, or failed by its data.
        error: why there is none, when another attempt may help.
        traceback: of that error, where it was caught.
        node: host and process of the attempt.
        fatal: why no shard of this run can succeed.
    """

    record: R | None = None
    error: str = ""
    traceback: str | None = None
    node: str = ""
    fatal: UnlearnableError | None = None


def attempt(get_worker: Callable[[], Worker[R]], task: ShardTask) -> Outcome[R]:
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
        told = traceback.format_exc()
        return Outcome(error=f"{type(error).__name__}: {error}", traceback=told, node=this_node())


def is_storage_full(error: BaseException) -> bool:
    """Tell whether ``error`` or what it was raised from is a lack of room to write."""
    causes = (error, error.__cause__)
    return any(
        isinstance(e, OSError) and e.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
        for e in causes
    )


class Queue(Generic[R]):
    """The shards that wait, in plan order; those tried before come first.

    Args:
        shards: what is to be done.
        output: URL of the output directory.
        record: URL of its record.
        max_attempts: how often a shard is begun whose worker dies.
        give_up: makes the end of a shard that has used up its attempts, of its last one and its
            outcome.

    Attributes:
        in_flight: what is in work.
    """

    def __init__(
        self,
        shards: Sequence[ShardInput],
        output: str,
        record: str,
        *,
        max_attempts: int,
        give_up: Callable[[ShardTask, Outcome[R]], R],
    ) -> None:
        self._fresh, self._begun = shards, 0
        self._output, self._record = output, record
        self._again: deque[ShardTask] = deque()
        self._max_attempts = max_attempts
        self._give_up = give_up
        self.in_flight = InFlight()

    def __len__(self) -> int:
        return len(self._again) + len(self._fresh) - self._begun

    def take(self) -> ShardTask | None:
        """Return the next task, None when none waits."""
        if self._again:
            task = self._again.popleft()
        elif self._begun < len(self._fresh):
            task = ShardTask(self._fresh[self._begun], self._output, self._record)
            self._begun += 1
        else:
            return None
        self.in_flight.add(task.shard.name, task.attempt)
        return task

    def give_back(self, task: ShardTask, reason: str = "") -> None:
        """Take ``task`` back, which was never begun or whose node was lost."""
        log.debug("shard %s, attempt %d, waits again %s", task.shard.name, task.attempt, reason)
        self.in_flight.remove(task.shard.name)
        self._again.appendleft(task)

    def lost(self, task: ShardTask, reason: str) -> R | None:
        """Take ``task`` back, whose node was lost: no attempt, unless that goes on and on."""
        if task.losses >= MAX_LOSSES:
            return self.settle(task, Outcome(error=reason))
        log.warning(
            "shard %s, attempt %d: %s; it does not count", task.shard.name, task.attempt, reason
        )
        self.give_back(replace(task, losses=task.losses + 1), reason)
        return None

    def settle(self, task: ShardTask, outcome: Outcome[R]) -> R | None:
        """Return the shard's final record, or None when it waits for another attempt.

        Raises:
            UnlearnableError: the outcome is fatal for the run.
        """
        self.in_flight.remove(task.shard.name)
        if outcome.fatal is not None:
            raise outcome.fatal
        if outcome.record is not None:
            return outcome.record
        log.warning("shard %s, attempt %d of %d: %s",
                    task.shard.name, task.attempt, self._max_attempts, outcome.error)  # fmt: skip
        if task.attempt < self._max_attempts:
            self._again.appendleft(replace(task, attempt=task.attempt + 1))
            return None
        told = replace(outcome, error=f"{task.attempt} attempts: {outcome.error}")
        return self._give_up(task, told)


class TaskQueue(Queue[LedgerRecord]):
    """The queue of a run that writes shards: what is given up fails, and the run's log is told."""

    def __init__(
        self,
        shards: Sequence[ShardInput],
        output: str,
        record: str,
        *,
        config_hash: str,
        max_attempts: int = 3,
        run_log: RunLog | None = None,
    ) -> None:
        def give_up(task: ShardTask, outcome: Outcome[LedgerRecord]) -> LedgerRecord:
            return failed_record(task, config_hash, outcome)

        super().__init__(shards, output, record, max_attempts=max_attempts, give_up=give_up)
        self._log = run_log

    def take(self) -> ShardTask | None:
        """Return the next task, None when none waits."""
        task = super().take()
        if task is not None and self._log is not None:
            self._log.event("shard_begun", shard=task.shard.name, attempt=task.attempt)
        return task

    def give_back(self, task: ShardTask, reason: str = "") -> None:
        """Take ``task`` back, which was never begun or whose node was lost."""
        super().give_back(task, reason)
        if self._log is not None:
            name = task.shard.name
            self._log.event("shard_returned", shard=name, attempt=task.attempt, reason=reason)

    def settle(self, task: ShardTask, outcome: Outcome[LedgerRecord]) -> LedgerRecord | None:
        """Return the shard's final record, or None when it waits for another attempt.

        Raises:
            UnlearnableError: the outcome is fatal for the run.
        """
        record = super().settle(task, outcome)
        if self._log is not None:
            self._log.ended(task, record, outcome)
        return record


def this_node() -> str:
    """Return host and process, for people."""
    return f"{socket.gethostname()} process {os.getpid()}"


def failed_by(error: Exception, task: ShardTask, config_hash: str) -> LedgerRecord:
    """Return the record of a shard whose data raised ``error`` in this process."""
    told = traceback.format_exc()
    outcome: Outcome[LedgerRecord] = Outcome(error=str(error), traceback=told, node=this_node())
    return failed_record(task, config_hash, outcome)


def failed_record(
    task: ShardTask, config_hash: str, outcome: Outcome[LedgerRecord]
) -> LedgerRecord:
    """Return the record of a shard that was given up."""
    source = {"url": task.shard.url, "size": task.shard.size, "etag": task.shard.etag}
    return LedgerRecord(
        shard=task.shard.name,
        status="failed",
        config_hash=config_hash,
        input=source,
        attempts=task.attempt,
        timings={"finished": time.time()},
        error=outcome.error,
        traceback=outcome.traceback,
        node=outcome.node,
    )
