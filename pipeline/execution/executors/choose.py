"""The executors by name: where shards run is asked for in one way by every command."""

import importlib.util
import os
from collections.abc import Callable, Generator
from typing import Literal

from ...errors import UsageError
from ..driver.schedule import Queue, R, Worker
from ..driver.stop import StopFlag
from ..options import ExecutorOptions
from .child import run_child
from .local import run_local


def choose_executor(config: ExecutorOptions) -> str:
    """Return ``local`` or ``ray``, whichever ``config`` means, when it can be used.

    Raises:
        UsageError: it cannot be used here.
    """
    name: str = config.executor
    if name == "auto":
        name = "ray" if os.environ.get("RAY_ADDRESS") or config.workers > 1 else "local"
    if name == "local" and config.workers > 1:
        raise UsageError("the local executor is one worker; use --executor ray for more")
    if name == "ray" and importlib.util.find_spec("ray") is None:
        raise UsageError("ray is not installed; install unlearnable[ray], or use --executor local")
    return name


def execute(
    config: ExecutorOptions,
    make: Callable[[], Worker[R]],
    queue: Queue[R],
    stop: StopFlag,
    *,
    gpus_per_worker: Literal["auto"] | float,
) -> Generator[R]:
    """Yield the end of every shard of ``queue``, as they come; close it to end the workers.

    Args:
        config: where and how.
        make: makes a worker, in its own process where there are several.
        queue: what to run.
        stop: asked between shards.
        gpus_per_worker: GPUs that a Ray actor reserves; ``auto`` is one where there is any.
    """
    timeout = config.shard_timeout
    with stop.telling():
        if choose_executor(config) == "ray":
            from .ray import run_ray

            running = run_ray(
                make,
                queue,
                stop,
                workers=config.workers,
                gpus_per_worker=gpus_per_worker,
                timeout=timeout,
            )
        elif timeout:
            running = run_child(make, queue, stop, timeout=timeout)
        else:
            running = run_local(make(), queue, stop)
        yield from running
