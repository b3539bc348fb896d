"""The process that works on shards."""

import os
from collections.abc import Callable
from typing import Any, NamedTuple

import ray

from ...driver.schedule import Outcome, ShardTask, Worker, attempt

MakeWorker = Callable[[], Worker[Any]]

# The group of calls that are answered while a shard is in work.
BEAT = "beat"


class ActorAddress(NamedTuple):
    """Where an actor runs: Ray's id of the node, and its address and process for people."""

    node: str
    host: str
    pid: int

    def __str__(self) -> str:
        return f"{self.host} process {self.pid}"


class ShardActor:
    """A process with one worker.

    The worker is made when the first shard arrives: an error in ``__init__`` looks like a death.

    Args:
        make: makes the worker.
        name: of the actor, for people; others may have the same.
    """

    def __init__(self, make: MakeWorker, name: str) -> None:
        self._make = make
        self._worker: Worker[Any] | None = None
        self._name = name

    def __repr__(self) -> str:
        """Return the name that Ray's dashboard and log show."""
        return self._name

    def run(self, task: ShardTask) -> Outcome[Any]:
        """Work on one shard."""
        return attempt(self._get_worker, task)

    @ray.method(concurrency_group=BEAT)  # type: ignore[untyped-decorator, unused-ignore]
    def where(self) -> ActorAddress:
        """Tell where the process is, when it is there."""
        node = ray.get_runtime_context().get_node_id()
        return ActorAddress(node, ray.util.get_node_ip_address(), os.getpid())

    @ray.method(concurrency_group=BEAT)  # type: ignore[untyped-decorator, unused-ignore]
    def beat(self) -> int:
        """Tell how many samples of the shard in work are done."""
        return int(getattr(self._worker, "samples_done", 0))

    def _get_worker(self) -> Worker[Any]:
        if self._worker is None:
            self._worker = self._make()
        return self._worker
