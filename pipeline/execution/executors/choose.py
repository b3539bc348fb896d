"""The executors by name: where shards run is asked for in one way by every command."""

import importlib.util
import os
from collections.abc import Callable, Generator
from dataclasses import replace
from typing import Literal, TypeVar

from ...errors import UsageError
from ..driver.schedule import Queue, R, Worker
from ..driver.stop import StopFlag
from ..options import ExecutorOptions
from .child import run_child
from .local import run_local

C = TypeVar("C", bound=ExecutorOptions)


def resolve_executor(config: C) -> C:
    """Return ``config`` with ``local`` or ``ray``, whichever it means, when that can be used.

    Raises:
        UsageError: it cannot be used here.
    """
    name = config.executor
    if name == "auto":
        name = "ray" if os.environ.get("RAY_ADDRESS") or config.workers > 1 else "local"
    if name == "local" and config.workers > 1:
        raise UsageError("the local executor is one worker; use --executor ray for more")
    if name == "ray" and importlib.util.find_spec("ray") is None:
        raise UsageError("ray is not installed; install unlearnable[ray], or use --executor local")
    return replace(config, executor=name)


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
        config: where and how, from `resolve_executor`.
        make: makes a worker, in its own process where there are several.
        queue: what to run.
        stop: asked between shards.
        gpus_per_worker: GPUs that a Ray actor reserves; ``auto`` is one where there is any.
    """
    assert config.executor != "auto", "resolved before"
    timeout = config.shard_timeout
    with stop.telling():
        if config.executor == "ray":
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
