"""Run shards on Ray actors: the one module that imports ray.

URLs go in and small records come out; no image passes through the object store. The loop is our own
because it has to know which shard a dead actor was working on (``ray.util.ActorPool`` and Ray Data
do not tell).
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import ray
from ray.exceptions import RayActorError, RayError

from ..data.ledger import LedgerRecord
from .schedule import Outcome, ShardTask, TaskQueue, attempt
from .spec import WorkerSetup
from .stop import StopFlag

log = logging.getLogger(__name__)

_POLL_SECONDS = 1.0


class ShardActor:
    """One process with one worker, made when the first shard arrives.

    Making it in ``__init__`` would turn a wrong configuration into the death of an actor.
    """

    def __init__(self, setup: WorkerSetup) -> None:
        self._setup = setup
        self._worker: Any = None

    def run(self, task: ShardTask) -> Outcome:
        """Process one shard."""
        return attempt(self, task) if self._worker is None else attempt(self._worker, task)

    def pid(self) -> int:
        """Return the process number."""
        return os.getpid()


@contextmanager
def connection(workers: int) -> Iterator[None]:
    """Use the cluster of this process or of RAY_ADDRESS, else start one for the time of the run."""
    if ray.is_initialized():
        yield
        return
    # ray.init takes SIGTERM over, which would end the driver without draining.
    handler = signal.getsignal(signal.SIGTERM)
    address = os.environ.get("RAY_ADDRESS")
    own = {"num_cpus": max(workers, os.cpu_count() or 1), "include_dashboard": False}
    ray.init(address=address, log_to_driver=False, configure_logging=False, **({} if address else own))
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        ray.shutdown()
