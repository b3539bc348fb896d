"""Driving a run: what waits goes to an executor, what comes back is recorded, the end is marked."""

import logging
import os
import random
import socket
import time
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from ...data.card import write_card
from ...data.ledger import (
    LedgerRecord,
    Records,
    is_covered,
    read_record,
    write_record,
    write_success,
)
from ...data.plan import Plan, ShardList
from ...data.record import find_record
from ...data.statements import Statements
from ...errors import UnlearnableError, UsageError
from ..checks import check_least
from ..config import RunConfig
from ..executors.choose import execute, resolve_executor
from ..options import part_of
from ..spec import WorkerSetup
from ..worker.shard_worker import make_worker
from .lease import OutputLease, lease_output
from .progress import Progress
from .resume import begin, committed_records, find_plan
from .run_log import RunLog
from .schedule import StorageFullError, TaskQueue, Worker, is_storage_full
from .slices import parse_slice, take_slice
from .stop import Interrupted, StopFlag, stop_on_signals
from .summary import RunSummary, summarise

C = TypeVar("C", bound=RunConfig)

log = logging.getLogger(__name__)

# Beyond it they wait for the interpreter.
_MOST_IO_THREADS = 16


def check_running(config: C) -> C:
    """Return ``config`` with its executor named, before anything is read.

    Raises:
        UsageError: out of range, or not possible here.
    """
    check_least(config, 1, "workers", "max_attempts")
    check_least(config, 0, "shard_timeout", "grace_seconds", "io_threads")
    if not 0 <= config.max_quarantined <= 1:
        raise UsageError(f"max-quarantined is {config.max_quarantined}; it is a share, 0 to 1")
    if config.slice is not None:
        parse_slice(config.slice)
    config = resolve_executor(config)
    return replace(config, io_threads=config.io_threads or _io_threads(config.executor))


def _io_threads(executor: str) -> int:
    """Return how many threads of a worker decode and encode where nobody said it."""
    if executor == "ray":
        return 2
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(max(cores or 1, 2), _MOST_IO_THREADS)


def drive(
    config: RunConfig,
    setup: WorkerSetup,
    plan: Plan,
    shards: ShardList,
    *,
    new: bool,
    only: frozenset[str] | None = None,
    make: Callable[[WorkerSetup], Worker[LedgerRecord]] = make_worker,
) -> RunSummary:
    """Run the shards of ``plan`` that are not committed and mark the output when it is complete.

    Args:
        config: how to run, from `check_running`; what determines the bytes is in ``setup`` and
            ``plan``.
        setup: how workers make themselves ready.
        plan: the plan of the output.
        shards: its shards as they are now.
        new: whether the plan is still to be written.
        only: names of the shards to run; None for all.
        make: makes a worker, in its own process where there are several.

    Raises:
        UsageError: another run holds the output, or no shard can succeed.
        StorageFullError: no space is left; nothing half-written was committed.
    """
    started = time.monotonic()
    record = find_record(config.output, config.record)
    part = take_slice(plan, config.slice)
    join = config.join or config.slice is not None
    records = Records()
    exit_code = 0
    with stop_on_signals(config.grace_seconds) as stop:
        try:
            with lease_output(record, plan.config_hash, stop, join=join) as lease:
                if new:
                    # Another run may have begun since this one looked.
                    plan, new = find_plan(plan.config, shards, config.output, record, plan.request)
                alone = lease.others == 0
                records = begin(
                    plan, shards, config.output, record, new=new, alone=alone, part=part
                )
                lease.hold()
                if only is None and config.slice is not None:
                    only = frozenset(shard.name for shard in part.shards)
                maker = partial(make, setup)
                run = _Run(config, record, maker, plan, part, lease, stop, records, only)
                run.carry_out(_waiting(shards, only, records))
        except Interrupted as interruption:
            log.warning("%s", interruption)
            exit_code = interruption.exit_code
        except UnlearnableError as error:
            if is_storage_full(error):
                raise StorageFullError(str(error)) from error
            raise
    return summarise(
        config.output,
        record,
        part,
        records,
        seconds=time.monotonic() - started,
        exit_code=exit_code,
        max_quarantined=config.max_quarantined,
    )


@dataclass
class _Run:
    """A run that may write: its plan is there and its lease is held."""

    config: RunConfig
    record: str
    make: Callable[[], Worker[LedgerRecord]]
    plan: Plan
    part: Plan
    lease: OutputLease
    stop: StopFlag
    records: Records
    only: frozenset[str] | None

    def carry_out(self, waiting: ShardList) -> None:
        """Run the shards that wait, add their records, and mark a complete output."""
        with RunLog(self.record, self.lease.run, self.config.log_file) as run_log:
            run_log.event("run_begun", **self._facts(waiting))
            end: dict[str, object] = {"error": None}
            try:
                if waiting:
                    log.info(
                        "%d threads decode and encode (--io-threads); --workers adds processes",
                        self.config.io_threads,
                    )
                    if self.config.slice is None:
                        waiting = _own_order(waiting, self.lease)
                    self._work(waiting, run_log)
                self._finish()
            except BaseException as error:
                end["error"] = f"{type(error).__name__}: {error}"
                raise
            finally:
                failed = len(self.records.failed)
                end |= {"committed": len(self.records) - failed, "failed": failed}
                run_log.event("run_ended", **end)

    def _facts(self, waiting: ShardList) -> dict[str, object]:
        return {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "version": self.plan.version,
            "config_hash": self.plan.config_hash,
            "shards": len(self.part.shards),
            "waiting": len(waiting),
            "executor": self.config.executor,
            "workers": self.config.workers,
            "slice": self.config.slice,
            "joined": self.lease.others,
        }

    def _work(self, waiting: ShardList, run_log: RunLog) -> None:
        queue = TaskQueue(
            waiting,
            self.config.output,
            self.record,
            config_hash=self.plan.config_hash,
            max_attempts=self.config.max_attempts,
            run_log=run_log,
        )
        self.lease.show(queue.in_flight)
        total = len(self.records) + len(waiting)
        gpus = self.config.gpus_per_worker
        running = execute(self.config, self.make, queue, self.stop, gpus_per_worker=gpus)
        with closing(running) as finished:
            held = _while_held(finished, self.lease)
            gather(self.record, held, total, self.records, queue.in_flight.samples)

    def _finish(self) -> None:
        """Write the card, and when every shard is committed the marks of a complete output."""
        output, record, records = self.config.output, self.record, self.records
        for name in sorted(records.failed):
            # A joined run may have done what failed here.
            records[name] = read_record(record, name) or records[name]
        if self.config.slice is not None:
            # Whoever commits the last shard of all slices finds every record here.
            if not is_covered(record, self.plan):
                return
            records = committed_records(self.plan, record)
        elif self.only is not None or self.lease.others:
            # What joined runs have committed since this one looked.
            records.update(committed_records(self.plan, record))
        write_card(output, self.plan, records, part_of(Statements, self.config))
        if len(records) - len(records.failed) == len(self.plan.shards) and any(
            record.protected for record in records.values()
        ):
            write_success(output, self.plan, records)


def _while_held(finished: Iterable[LedgerRecord], lease: OutputLease) -> Iterator[LedgerRecord]:
    for record in finished:
        lease.check()
        yield record


def _waiting(shards: ShardList, only: frozenset[str] | None, records: Records) -> ShardList:
    if only is None and not records:
        return shards
    return ShardList.of(
        shard
        for shard in shards
        if (only is None or shard.name in only) and shard.name not in records
    )


def _own_order(waiting: ShardList, lease: OutputLease) -> ShardList:
    """Return the shards in another order than those of the runs that are joined.

    A worker passes over what it finds committed: runs that come from two ends meet once.
    """
    if lease.others == 1:
        return waiting[::-1]
    if lease.others:
        order = list(range(len(waiting)))
        random.Random(lease.run).shuffle(order)
        return waiting.take(order)
    return waiting


def gather(
    kept: str,
    finished: Iterable[LedgerRecord],
    total: int,
    records: MutableMapping[str, LedgerRecord],
    in_work: Callable[[], int] | None = None,
) -> None:
    """Add ``finished`` shards to ``records``, write down those that failed, show progress.

    Args:
        kept: URL of the record.
        finished: final records; the committed ones have been written by their workers.
        total: shards of the plan.
        records: those of earlier runs; added to.
        in_work: returns the samples done of shards that are in work.
    """
    with Progress(total, len(records), in_work=in_work) as progress:
        for record in finished:
            if record.status == "failed":
                log.error("shard %s failed: %s", record.shard, record.error)
                write_record(kept, record)
            records[record.shard] = record
            progress.update(record.samples, record.timings.get("started"))
