"""Run shards on Ray actors: the one package that imports ray.

URLs go in and small records come out; no image passes through the object store. The loop is our own
because it has to know which shard a dead actor was working on, which ``ray.util.ActorPool`` and Ray
Data do not tell.
"""

from collections.abc import Callable, Generator
from typing import Literal

from ...driver.schedule import Queue, R, Worker
from ...driver.stop import StopFlag
from .cluster import HeadWatch, connection
from .executor import RayExecutor

__all__ = ["RayExecutor", "connection", "run_ray"]


def run_ray(
    make: Callable[[], Worker[R]],
    queue: Queue[R],
    stop: StopFlag,
    *,
    workers: int,
    gpus_per_worker: Literal["auto"] | float,
    timeout: float = 0.0,
) -> Generator[R]:
    """Yield the final record of every shard of ``queue``, computed by ``workers`` actors.

    An actor for which the cluster has no room yet is no hindrance: the others work on, and it takes
    its part when a node joins.

    Raises:
        ClusterLostError: the head of the cluster is gone; the run can be resumed.
        UsageError: no cluster answers, or its nodes cannot start a worker.
    """
    with connection(workers), HeadWatch() as head:
        executor: RayExecutor[R] = RayExecutor(make, workers, gpus_per_worker, timeout)
        try:
            yield from executor.run(queue, stop, head)
        finally:
            if not head.lost:
                executor.close()
