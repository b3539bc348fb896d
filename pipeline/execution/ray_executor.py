"""Run shards on Ray actors: the one module that imports ray.

URLs go in and small records come out; no image passes through the object store. The loop is our own
because it has to know which shard a dead actor was working on, which ``ray.util.ActorPool`` and Ray
Data do not tell.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

import ray
from ray.exceptions import ActorUnavailableError, RayActorError, RayError, RayTaskError

from ..errors import UsageError
from .child_executor import too_late
from .schedule import Outcome, Queue, R, ShardTask, Worker, attempt
from .stop import StopFlag

log = logging.getLogger(__name__)

MakeWorker = Callable[[], Worker[Any]]

_POLL_SECONDS = 1.0
_PROBE_SECONDS = 5.0
_DEPTH = 2


class ShardActor:
    """A process with one worker.

    The worker is made when the first shard arrives: an error in ``__init__`` looks like a death.
    """

    def __init__(self, make: MakeWorker) -> None:
        self._make = make
        self._worker: Worker[Any] | None = None

    def run(self, task: ShardTask) -> Outcome[Any]:
        """Process one shard."""
        return attempt(self._get_worker, task)

    def ready(self) -> None:
        """Return when the process is there."""

    def _get_worker(self) -> Worker[Any]:
        if self._worker is None:
            self._worker = self._make()
        return self._worker


@dataclass
class _Slot:
    """One actor and the tasks it was given, the running one first.

    ``ready`` is done when its process has started, ``since`` then tells when the running task
    began.
    """

    actor: Any
    ready: Any
    since: float | None = None
    tasks: deque[tuple[Any, ShardTask]] = field(default_factory=deque)


class RayExecutor:
    """Actors around one queue.

    Args:
        make: makes the worker of an actor, in the actor; small, it travels there.
        workers: number of actors.
        gpus_per_worker: GPUs an actor reserves; ``auto`` is one where the cluster has any.
        timeout: seconds that an attempt may take; 0 sets no limit.
    """

    def __init__(
        self,
        make: MakeWorker,
        workers: int,
        gpus_per_worker: Literal["auto"] | float,
        timeout: float = 0.0,
    ) -> None:
        if gpus_per_worker == "auto":
            gpus_per_worker = 1.0 if ray.cluster_resources().get("GPU", 0) else 0.0
        # Ray must not retry by itself: it would not count, and not say so.
        options: dict[str, Any] = {
            "num_cpus": 1,
            "num_gpus": gpus_per_worker,
            "max_restarts": 0,
            "max_task_retries": 0,
        }
        self._actor_class = ray.remote(**options)(ShardActor)
        self._make = ray.put(make)
        self._timeout = timeout
        self._slots = [_Slot(*self._new_actor()) for _ in range(workers)]

    def run(self, queue: Queue[R], stop: StopFlag) -> Iterator[R]:
        """Yield the final record of every shard of ``queue``."""
        while self._fill(queue, stop):
            heads = {slot.tasks[0][0]: slot for slot in self._slots if slot.tasks}
            ready, _ = ray.wait(list(heads), num_returns=1, timeout=_POLL_SECONDS)
            stop.check_now()
            records = [self._finish(heads[ref], queue) for ref in ready]
            records += [self._end(slot, queue) for slot in self._slots if self._is_late(slot)]
            yield from (record for record in records if record is not None)
        stop.check()

    def close(self) -> None:
        """End the actors."""
        for slot in self._slots:
            ray.kill(slot.actor)

    def _new_actor(self) -> tuple[Any, Any]:
        actor: Any = self._actor_class.remote(self._make)
        return actor, actor.ready.remote()

    def _fill(self, queue: Queue[Any], stop: StopFlag) -> bool:
        """Give every actor a task, then a second one; return whether any has one.

        A run that is told to stop takes back what only waits.
        """
        if stop.ending:
            for slot in self._slots:
                while len(slot.tasks) > 1:
                    ray.cancel(slot.tasks.pop()[0])
            return any(slot.tasks for slot in self._slots)
        for depth in range(1, _DEPTH + 1):
            # The last shards are not queued behind others: an idle actor may come free first.
            if depth > 1 and len(queue) < len(self._slots):
                break
            for slot in self._slots:
                task = queue.take() if len(slot.tasks) < depth else None
                if task is not None:
                    slot.since = None if depth == 1 else slot.since
                    slot.tasks.append((slot.actor.run.remote(task), task))
        return any(slot.tasks for slot in self._slots)

    def _finish(self, slot: _Slot, queue: Queue[R]) -> R | None:
        """Take the running task off ``slot``; its actor is replaced when it died."""
        ref, task = slot.tasks.popleft()
        slot.since = None
        try:
            outcome: Outcome[Any] = ray.get(ref)
        except RayActorError as error:
            self._replace(slot, queue)
            if error.preempted:
                log.warning(
                    "shard %s: its node was preempted; the attempt does not count", task.shard.name
                )
                queue.give_back(task)
                return None
            outcome = Outcome(error=_describe(error))
        except RayTaskError as error:
            outcome = Outcome(error=str(error.cause))
        return queue.settle(task, outcome)

    def _is_late(self, slot: _Slot) -> bool:
        """Whether the running task of ``slot`` has had its time; waiting for a node is free."""
        if not self._timeout or not slot.tasks:
            return False
        if slot.since is None:
            if ray.wait([slot.ready], timeout=0)[0]:
                slot.since = time.monotonic()
            return False
        return time.monotonic() - slot.since > self._timeout

    def _end(self, slot: _Slot, queue: Queue[R]) -> R | None:
        """Take a task that hangs off ``slot``, with its actor."""
        _, task = slot.tasks.popleft()
        self._replace(slot, queue)
        return queue.settle(task, Outcome(error=too_late(self._timeout)))

    def _replace(self, slot: _Slot, queue: Queue[Any]) -> None:
        """Give back what only waited for the actor of ``slot``, and start another actor."""
        for _, task in reversed(slot.tasks):
            queue.give_back(task)
        slot.tasks.clear()
        # An actor that is only unreachable must not go on with a shard that another one gets.
        ray.kill(slot.actor)
        slot.actor, slot.ready = self._new_actor()
        slot.since = None


def _describe(error: RayActorError) -> str:
    """Return the reason of a death in one line."""
    kind = (
        "lost contact with the actor"
        if isinstance(error, ActorUnavailableError)
        else "the actor died"
    )
    return f"{kind}: {' '.join(str(error).split())[:500]}"


@contextmanager
def connection(workers: int) -> Iterator[None]:
    """Use this process's cluster or that of RAY_ADDRESS, else start one for the time of the run.

    Raises:
        UsageError: nothing answers at RAY_ADDRESS.
    """
    if ray.is_initialized():
        yield
        return
    # ray.init takes SIGTERM over, which would end the driver without a word.
    handler = signal.getsignal(signal.SIGTERM)
    address = os.environ.get("RAY_ADDRESS")
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.WARNING}
    if address:
        _join(address, options)
    else:
        cpus = max(workers, os.cpu_count() or 1)
        ray.init(address="local", num_cpus=cpus, include_dashboard=False, **options)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        ray.shutdown()


def _join(address: str, options: dict[str, Any]) -> None:
    """Connect to a running cluster; ray.init alone tries a dead one for minutes."""
    try:
        place = urlsplit(address if "://" in address else f"//{address}")
        if place.hostname and place.port:
            socket.create_connection((place.hostname, place.port), _PROBE_SECONDS).close()
        ray.init(**options)
    except (OSError, RuntimeError, ValueError, RayError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UsageError(
            f"no Ray cluster answers at RAY_ADDRESS={address} ({reason}); start it or correct the "
            "address, or unset RAY_ADDRESS to run on this machine alone"
        ) from error


def run_ray(
    make: Callable[[], Worker[R]],
    queue: Queue[R],
    stop: StopFlag,
    *,
    workers: int,
    gpus_per_worker: Literal["auto"] | float,
    timeout: float = 0.0,
) -> Generator[R]:
    """Yield the final record of every shard of ``queue``, computed by ``workers`` actors."""
    with connection(workers):
        executor = RayExecutor(make, workers, gpus_per_worker, timeout)
        try:
            yield from executor.run(queue, stop)
        finally:
            executor.close()
