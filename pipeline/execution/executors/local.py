"""Run shards one after the other in this process."""

from collections.abc import Generator

from ..driver.schedule import Queue, R, Worker, attempt, this_node
from ..driver.stop import StopFlag


def run_local(worker: Worker[R], queue: Queue[R], stop: StopFlag) -> Generator[R]:
    """Yield the final record of every shard of ``queue``."""
    while len(queue):
        stop.check()
        task = queue.take()
        assert task is not None
        queue.in_flight.begin(
            task.shard.name, this_node(), lambda: getattr(worker, "samples_done", 0)
        )
        record = queue.settle(task, attempt(lambda: worker, task))
        if record is not None:
            yield record
