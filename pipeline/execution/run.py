"""`protect`: from the request to the committed output."""

from __future__ import annotations

import importlib.util
import logging
import os
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import fields
from functools import partial
from typing import Any

from ..data.card import write_card
from ..data.ledger import LedgerRecord, write_success
from ..data.plan import Plan, ShardInput, resolve_input
from ..errors import UnlearnableError, UsageError
from ..method.config import MAX_TRIGGER_WORDS, MemConfig
from .artifact import load_surrogate
from .config import ProtectConfig
from .estimate import estimate
from .gather import gather
from .local_executor import run_local
from .resume import begin, check_places, find_plan
from .schedule import StorageFullError, TaskQueue, is_storage_full
from .spec import RunSpec, WorkerSetup, package_version
from .stop import Interrupted, StopFlag, stop_on_signals
from .summary import RunSummary, summarise
from .worker import make_worker

log = logging.getLogger(__name__)

Records = dict[str, LedgerRecord]


def protect(config: ProtectConfig) -> RunSummary:
    """Protect every shard of a corpus, or go on with a run that was interrupted.

    SIGINT and SIGTERM end it with exit code 130 or 143 in the summary; the same call resumes.

    Returns:
        what was done, with the exit code of the run.

    Raises:
        UsageError: the request cannot be carried out as written.
        StorageFullError: no space is left; nothing half-written was committed.
    """
    try:
        return _protect(config)
    except UnlearnableError as error:
        if is_storage_full(error):
            raise StorageFullError(str(error)) from error
        raise


def _protect(config: ProtectConfig) -> RunSummary:
    started = time.monotonic()
    _check(config)
    shards = resolve_input(config.input)
    check_places(shards, config.output)
    spec = make_spec(config)
    plan, new = find_plan(spec.as_dict(), shards, config.output)
    if config.dry_run:
        return estimate(config, spec, plan, shards)
    setup = WorkerSetup(spec, _surrogate_url(config), config.io_threads, config.device)
    records: Records = {}
    exit_code = 0
    with stop_on_signals() as stop:
        try:
            records |= begin(plan, shards, config.output, new=new)
            queue = _queue(config, plan, shards, records)
            if len(queue):
                with closing(_execute(config, setup, queue, stop)) as finished:
                    gather(config.output, finished, len(shards), records)
            _finish(config, plan, records)
        except Interrupted as interruption:
            log.warning("%s", interruption)
            exit_code = interruption.exit_code
    return summarise(
        config.output,
        plan,
        records,
        seconds=time.monotonic() - started,
        exit_code=exit_code,
        max_quarantined=config.max_quarantined,
    )


def _check(config: ProtectConfig) -> None:
    """Refuse what no surrogate or input could make right."""
    k = config.trigger_words
    if k is not None and not 1 <= k <= MAX_TRIGGER_WORDS:
        raise UsageError(f"trigger-words is {k}; it must be 1..{MAX_TRIGGER_WORDS}")
    at_least_one = ("workers", "io_threads", "torch_threads", "max_attempts", "max_pixels")
    for name in at_least_one:
        if getattr(config, name) < 1:
            raise UsageError(
                f"{name.replace('_', '-')} is {getattr(config, name)}; it must be at least 1"
            )
    if config.batch_size < 2:
        raise UsageError(f"batch-size is {config.batch_size}; a contrastive loss needs at least 2")
    if not 0 <= config.max_quarantined <= 1:
        raise UsageError(f"max-quarantined is {config.max_quarantined}; it is a share, 0 to 1")
    if config.surrogate is None and config.method != "random":
        raise UsageError(
            f"method {config.method} needs --surrogate; write one with `unlearnable fit`"
        )
    _executor(config)


def _surrogate_url(config: ProtectConfig) -> str | None:
    return None if config.method == "random" else config.surrogate


def make_spec(config: ProtectConfig) -> RunSpec:
    """Check the method's settings and the surrogate, and gather what determines the bytes.

    Raises:
        UsageError: settings out of range, or no such surrogate, or another trigger length.
    """
    options: dict[str, Any] = {
        name: value
        for name in (item.name for item in fields(MemConfig))
        if (value := getattr(config, name, None)) is not None
    }
    mem = MemConfig(**options)
    mem.validate()
    sha256, trigger_words = "", 0
    url = _surrogate_url(config)
    if url is not None:
        surrogate, sha256 = load_surrogate(url)
        trigger_words = surrogate.trigger_words
        if config.trigger_words not in (None, trigger_words):
            raise UsageError(
                f"trigger-words is {config.trigger_words}, but surrogate {url} was fitted with "
                f"{trigger_words}; leave the option out, or fit another with that many"
            )
    return RunSpec(
        mem=mem,
        batch_size=config.batch_size,
        trigger_words=trigger_words,
        surrogate_sha256=sha256,
        seed=config.seed,
        image_format=config.image_format,
        caption_fields=config.caption_fields,
        max_pixels=config.max_pixels,
        torch_threads=config.torch_threads,
        version=package_version(),
    )


def _queue(
    config: ProtectConfig, plan: Plan, shards: Sequence[ShardInput], records: Records
) -> TaskQueue:
    """Return what is not committed yet; shards that failed in an earlier run are tried again."""
    waiting = [shard for shard in shards if shard.name not in records]
    return TaskQueue(
        waiting, config.output, config_hash=plan.config_hash, max_attempts=config.max_attempts
    )


def _executor(config: ProtectConfig) -> str:
    """Return ``local`` or ``ray``, whichever ``config`` means, when it can be used."""
    name = config.executor
    if name == "auto":
        name = "ray" if os.environ.get("RAY_ADDRESS") or config.workers > 1 else "local"
    if name == "local" and config.workers > 1:
        raise UsageError("the local executor is one worker; use --executor ray for more")
    if name == "ray" and importlib.util.find_spec("ray") is None:
        raise UsageError("ray is not installed; install unlearnable[ray], or use --executor local")
    return name


def _execute(
    config: ProtectConfig, setup: WorkerSetup, queue: TaskQueue, stop: StopFlag
) -> Generator[LedgerRecord]:
    if _executor(config) == "local":
        return run_local(make_worker(setup), queue, stop)
    from .ray_executor import run_ray

    gpus = config.gpus_per_worker
    make = partial(make_worker, setup)
    return run_ray(make, queue, stop, workers=config.workers, gpus_per_worker=gpus)


def _finish(config: ProtectConfig, plan: Plan, records: Records) -> None:
    """Write the card, and when every shard is committed the marks of a complete output."""
    write_card(config.output, plan, records, config.owner)
    if all(record.status == "committed" for record in records.values()):
        write_success(config.output, plan)
