"""The loop around the actors: which shard each one has, and what becomes of it."""

import itertools
import logging
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, Literal

import ray
from ray.exceptions import ActorUnavailableError, RayActorError, RayError, RayTaskError

from ....errors import UsageError
from ...driver.schedule import Outcome, Queue, R, ShardTask
from ...driver.stop import StopFlag
from ..child import too_late
from .actor import BEAT, ActorAddress, MakeWorker, ShardActor
from .cluster import HeadWatch, is_dead
from .metrics import Metrics

log = logging.getLogger(__name__)

_POLL_SECONDS = 1.0
_DEPTH = 2
_BEAT_SECONDS = 5.0
# An actor that answers no heartbeat for so long is frozen or cut off.
_SILENT_SECONDS = 600.0
# How long the cluster may take to tell why an actor is out of reach.
_DOUBT_SECONDS = 60.0
_NO_ACTOR_SECONDS = 60.0
# Actors in a row that end before they have started: something is wrong with the nodes.
_FAILED_STARTS = 10


@dataclass
class _Slot:
    """One actor and the tasks it was given, the running one first.

    Attributes:
        actor: its handle.
        starting: done when its process is there.
        place: where that is; None before.
        tasks: reference of the outcome and task of each.
        since: when the running task began.
        beat: a heartbeat that is under way.
        heard: when the last one came, or the next one was due.
        doubted: since when nobody can tell what became of the actor.
    """

    actor: Any
    starting: Any
    address: ActorAddress | None = None
    tasks: deque[tuple[Any, ShardTask]] = field(default_factory=deque)
    since: float = 0.0
    beat: Any = None
    heard: float = 0.0
    doubted: float | None = None


class RayExecutor(Generic[R]):
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
        self._gpus = gpus_per_worker
        # Ray must not retry by itself: it would not count, and not say so.
        options: dict[str, Any] = {
            "num_cpus": 1,
            "num_gpus": gpus_per_worker,
            "max_restarts": 0,
            "max_task_retries": 0,
            "concurrency_groups": {BEAT: 1},
        }
        self._actor_class = ray.remote(**options)(ShardActor)
        self._make = ray.put(make)
        self._numbers = itertools.count(1)
        self._timeout = timeout
        self._failed_starts = 0
        self._idle_since = time.monotonic()
        self._head: HeadWatch | None = None
        self._metrics: Metrics | None = None
        self._slots = [_Slot(*self._new_actor()) for _ in range(workers)]

    def run(self, queue: Queue[R], stop: StopFlag, head: HeadWatch | None = None) -> Iterator[R]:
        """Yield the final record of every shard of ``queue``."""
        self._head = head
        while self._fill(queue, stop):
            waits = {slot.tasks[0][0]: slot for slot in self._slots if slot.tasks}
            waits |= {slot.starting: slot for slot in self._slots if slot.address is None}
            ready, _ = ray.wait(list(waits), num_returns=1, timeout=_POLL_SECONDS)
            stop.check_now()
            if head is not None:
                head.check()
            slots = [waits[ref] for ref in ready]
            records = [self._advance(slot, queue) for slot in slots]
            records += [self._end_late(slot, queue) for slot in self._slots]
            yield from (record for record in records if record is not None)
            self._tell(queue)
        stop.check()

    def close(self) -> None:
        """End the actors."""
        for slot in self._slots:
            ray.kill(slot.actor)

    def _new_actor(self) -> tuple[Any, Any]:
        actor: Any = self._actor_class.remote(self._make, f"worker-{next(self._numbers)}")
        return actor, actor.where.remote()

    def _fill(self, queue: Queue[Any], stop: StopFlag) -> bool:
        """Give every actor that has started a task, then a second one; return whether to go on.

        A run that is told to stop takes back what only waits.
        """
        if stop.ending:
            for slot in self._slots:
                while len(slot.tasks) > 1:
                    ref, waiting = slot.tasks.pop()
                    ray.cancel(ref)
                    queue.give_back(waiting)
            return any(slot.tasks for slot in self._slots)
        there = [slot for slot in self._slots if slot.address is not None and slot.doubted is None]
        for depth in range(1, _DEPTH + 1):
            # The last shards are not queued behind others: an idle actor may come free first.
            if depth > 1 and len(queue) < len(self._slots):
                break
            for slot in there:
                task = queue.take() if len(slot.tasks) < depth else None
                if task is None:
                    continue
                self._metrics = self._metrics or Metrics(task.output)
                # Ray's dashboard lists tasks by this name; a process has it as its title meanwhile.
                name = f"ShardActor.run {task.shard.name}"
                started = slot.actor.run.options(name=name).remote(task)
                slot.tasks.append((started, task))
                if depth == 1:
                    self._begin(slot, queue)
        return len(queue) > 0 or any(slot.tasks for slot in self._slots)

    def _begin(self, slot: _Slot, queue: Queue[Any]) -> None:
        """Note that the first task of ``slot`` is in work now."""
        slot.since = slot.heard = time.monotonic()
        slot.beat = None
        if slot.tasks:
            queue.in_flight.begin(slot.tasks[0][1].shard.name, str(slot.address))

    def _advance(self, slot: _Slot, queue: Queue[R]) -> R | None:
        """Take what has come of ``slot``: its actor has started, or its running task is over."""
        if slot.address is None:
            self._take_start(slot, queue)
            return None
        ref, task = slot.tasks.popleft()
        try:
            outcome: Any = ray.get(ref)
        except RayTaskError as error:
            outcome = Outcome(error=str(error.cause))
        except ActorUnavailableError as error:
            return self._doubt(slot, task, error, queue)
        except RayError as error:
            return self._died(slot, task, error, queue)
        if not isinstance(outcome, Outcome):
            # It can be reached again; what it had done meanwhile was lost on the way.
            return self._lose(slot, task, "it was out of reach", queue)
        self._begin(slot, queue)
        return self._settle(task, outcome, queue)

    def _take_start(self, slot: _Slot, queue: Queue[Any]) -> None:
        """Note where an actor has started; an actor that ended before gets a successor."""
        try:
            slot.address = ray.get(slot.starting)
            self._failed_starts = 0
            log.info("a worker has started on %s, node %s", slot.address, slot.address.node)
        except RayError as error:
            self._failed_starts += 1
            reason = _describe(error)
            if self._failed_starts >= _FAILED_STARTS:
                raise UsageError(
                    f"{_FAILED_STARTS} worker processes in a row ended before they had started "
                    f"({reason}); install this version of unlearnable on every node"
                ) from error
            log.warning("a worker process did not start: %s", reason)
            time.sleep(min(self._failed_starts, 3) * 0.5)
            self._replace(slot, queue)

    def _doubt(self, slot: _Slot, task: ShardTask, error: RayError, queue: Queue[R]) -> R | None:
        """Ask again what became of an actor that is out of reach, until the cluster knows."""
        now = time.monotonic()
        slot.doubted = slot.doubted or now
        if now - slot.doubted > _DOUBT_SECONDS:
            return self._lose(slot, task, _describe(error), queue)
        time.sleep(0.2)
        slot.tasks.appendleft((slot.actor.where.remote(), task))
        return None

    def _died(self, slot: _Slot, task: ShardTask, error: RayError, queue: Queue[R]) -> R | None:
        """Settle the task of an actor that is no more: the shard's fault, or its node's."""
        if self._head is not None:
            self._head.look()
            self._head.check()
        preempted = isinstance(error, RayActorError) and error.preempted
        if preempted or (slot.address is not None and is_dead(slot.address.node)):
            return self._lose(slot, task, f"its node was lost ({slot.address})", queue)
        self._replace(slot, queue)
        return self._settle(task, Outcome(error=_describe(error)), queue)

    def _lose(self, slot: _Slot, task: ShardTask, reason: str, queue: Queue[R]) -> R | None:
        if self._metrics is not None:
            self._metrics.again(lost=True)
        self._replace(slot, queue)
        return queue.lost(task, reason)

    def _end_late(self, slot: _Slot, queue: Queue[R]) -> R | None:
        """Take a task that hangs off ``slot``, with its actor."""
        if not slot.tasks or slot.doubted is not None:
            return None
        now = time.monotonic()
        self._hear(slot, now, queue)
        if self._timeout and now - slot.since > self._timeout:
            reason = too_late(self._timeout)
        elif now - slot.heard > _SILENT_SECONDS:
            reason = f"no sign of life for {_SILENT_SECONDS:.0f} s ({slot.address})"
        else:
            return None
        _, task = slot.tasks.popleft()
        self._replace(slot, queue)
        return self._settle(task, Outcome(error=reason), queue)

    def _hear(self, slot: _Slot, now: float, queue: Queue[Any]) -> None:
        """Take a heartbeat that has come, and ask for the next one."""
        if slot.beat is None:
            if now - slot.heard >= _BEAT_SECONDS:
                slot.beat = slot.actor.beat.remote()
        elif ray.wait([slot.beat], timeout=0)[0]:
            try:
                queue.in_flight.beat(slot.tasks[0][1].shard.name, ray.get(slot.beat))
                slot.heard = now
            except RayError:
                pass  # the task's own reference tells of the death
            slot.beat = None

    def _replace(self, slot: _Slot, queue: Queue[Any]) -> None:
        """Give back what only waited for the actor of ``slot``, and start another actor."""
        for _, task in reversed(slot.tasks):
            queue.give_back(task)
        # An actor that is only unreachable must not go on with a shard that another one gets.
        ray.kill(slot.actor)
        actor, starting = self._new_actor()
        self._slots[self._slots.index(slot)] = _Slot(actor, starting)

    def _settle(self, task: ShardTask, outcome: Outcome[Any], queue: Queue[R]) -> R | None:
        record = queue.settle(task, outcome)
        if self._metrics is not None:
            if record is None:
                self._metrics.again(lost=False)
            else:
                self._metrics.ended(record)
        return record

    def _tell(self, queue: Queue[Any]) -> None:
        """Set the gauges; say so when no actor can start."""
        there = sum(slot.address is not None for slot in self._slots)
        waiting = len(queue) + sum(max(len(slot.tasks) - 1, 0) for slot in self._slots)
        if self._metrics is not None:
            self._metrics.level(waiting, sum(bool(slot.tasks) for slot in self._slots), there)
        now = time.monotonic()
        if there:
            self._idle_since = now
        elif now - self._idle_since > _NO_ACTOR_SECONDS:
            self._idle_since = now
            log.warning(
                "no worker has started for %.0f s: each needs 1 CPU and %g GPUs, free in the "
                "cluster are %s; waiting for a node",
                _NO_ACTOR_SECONDS,
                self._gpus,
                {k: v for k, v in ray.available_resources().items() if k in {"CPU", "GPU"}},
            )


def _describe(error: RayError) -> str:
    """Return the reason of a death in one line."""
    kind = (
        "lost contact with the actor"
        if isinstance(error, ActorUnavailableError)
        else "the actor died"
    )
    return f"{kind}: {' '.join(str(error).split())[:500]}"
