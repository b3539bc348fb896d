"""Run shards one after the other in one child process, which can be ended when it hangs.

A shard that kills its process, or keeps it past the deadline, costs an attempt of that shard and
nothing else; in the driver's own process it would take the run along.
"""

import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Generator
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import Any

from ..driver.schedule import Outcome, Queue, R, ShardTask, Worker, attempt
from ..driver.stop import StopFlag

log = logging.getLogger(__name__)

MakeWorker = Callable[[], Worker[Any]]

_POLL_SECONDS = 0.2


class _Child:
    """A process that has a worker; the worker is made when the first shard arrives."""

    def __init__(self, make: MakeWorker) -> None:
        # Not forked: CUDA and thread pools do not survive that.
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, make), daemon=True)
        # Ctrl-C and schedulers reach every process of a group; the driver decides what becomes of
        # this one, which inherits the mask and is ended by SIGKILL.
        # What Python starts with the first process of a program unblocks them: it comes before.
        resource_tracker.ensure_running()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
        try:
            self.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()

    def answer(self, stop: StopFlag, deadline: float | None = None) -> Any:
        """Return what the child sends; None when time is up.

        Raises:
            EOFError: the child died.
        """
        while not self.connection.poll(_POLL_SECONDS):
            stop.check_now()
            if deadline is not None and time.monotonic() > deadline:
                return None
        return self.connection.recv()

    def end(self) -> None:
        """Kill the process."""
        self.process.kill()
        self.process.join()
        self.connection.close()


def run_child(
    make: Callable[[], Worker[R]], queue: Queue[R], stop: StopFlag, *, timeout: float
) -> Generator[R]:
    """Yield the final record of every shard of ``queue``.

    Args:
        make: makes the worker, in the child; has to be picklable.
        queue: what to run.
        stop: asked between shards, and while one runs.
        timeout: seconds that an attempt may take, the making of the worker included.
    """
    child: _Child | None = None
    try:
        while len(queue):
            stop.check()
            task = queue.take()
            assert task is not None
            if child is None:
                child = _Child(make)
            outcome = _run(child, task, stop, timeout)
            if outcome.record is None and outcome.fatal is None:
                child.end()
                child = None
            record = queue.settle(task, outcome)
            if record is not None:
                yield record
    finally:
        if child is not None:
            child.end()


def _run(child: _Child, task: ShardTask, stop: StopFlag, timeout: float) -> Outcome[Any]:
    try:
        child.connection.send(task)
        # It says that it has the task: its imports do not count.
        child.answer(stop)
        outcome: Outcome[Any] | None = child.answer(stop, time.monotonic() + timeout)
    except (EOFError, OSError):
        child.process.join()
        code = child.process.exitcode or 0
        cause = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return Outcome(error=f"the worker process died ({cause})")
    return outcome or Outcome(error=too_late(timeout))


def too_late(timeout: float) -> str:
    """Return the reason of an attempt that was ended at its deadline."""
    return f"no result within {timeout:g} s (--shard-timeout)"


def _serve(connection: Connection, make: MakeWorker) -> None:
    threading.Thread(target=_follow_parent, daemon=True).start()
    worker: Worker[Any] | None = None

    def get_worker() -> Worker[Any]:
        nonlocal worker
        worker = worker or make()
        return worker

    while True:
        try:
            task: ShardTask = connection.recv()
        except EOFError:
            return
        connection.send("begun")
        connection.send(attempt(get_worker, task))


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
