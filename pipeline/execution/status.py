"""`status`: how far a run is, from its plan and ledger alone, from any machine, at any time."""

import json
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import fmean

from ..data import storage
from ..data.ledger import SUCCESS_NAME, LedgerRecord, read_ledger, read_record
from ..data.plan import Plan, read_plan
from ..data.record import find_record, no_run
from ..errors import UsageError
from ..method.passes import Passes
from .config import StatusConfig
from .driver.in_flight import InWork
from .driver.lease import read_leases
from .driver.progress import duration
from .driver.run_log import LOG_DIR

_SLOWEST = 5
_RECENT_SECONDS = 600.0
# Between two looks; where a look takes long, most of the time passes between them.
_WATCH_SECONDS, _WATCH_SHARE = 2.0, 10.0


@dataclass(frozen=True)
class StatusReport:
    """The state of an output.

    Attributes:
        output: URL of the output directory.
        record: URL of its record.
        config_hash: configuration of its run.
        complete: whether `_SUCCESS` is there.
        shards: shards of the plan.
        committed: shards done.
        failed: reason by name of each shard that was given up.
        samples: samples of the committed shards.
        protected: samples published with protection.
        quarantined: samples not published.
        retries: storage operations that were repeated for them.
        bytes: size of the committed shards.
        samples_per_second: over the last commits, ten minutes or ten shards' time back; None before
            the first.
        seconds_left: estimate at that rate; None before the first.
        last_commit_seconds: time since the last commit; None before the first.
        passes: passes through the surrogate for each protected sample, by kind.
        queues: samples that stood before and after the optimisation, on average: ``decoded`` and
            ``optimised``.
        waited: share of their time that the shards' optimisation waited for either queue; None
            before the first shard.
        slowest: seconds by name of the slowest shards.
        repeated: number of attempts by name of each shard that needed more than one.
        runs: the runs that hold a lease on the output now.
        working: the attempts in work at the last heartbeat of each run, the longest first.
        log: URL of the newest log in the record; None where each run named a file of its own.
        restored: whether `restore` wrote it.
    """

    output: str
    record: str
    config_hash: str
    complete: bool
    shards: int
    committed: int
    failed: dict[str, str]
    samples: int
    protected: int
    quarantined: int
    retries: int
    bytes: int
    samples_per_second: float | None = None
    seconds_left: float | None = None
    last_commit_seconds: float | None = None
    passes: dict[str, float] = field(default_factory=dict)
    queues: dict[str, float] = field(default_factory=dict)
    waited: float | None = None
    slowest: dict[str, float] = field(default_factory=dict)
    repeated: dict[str, int] = field(default_factory=dict)
    runs: list[str] = field(default_factory=list)
    working: list[InWork] = field(default_factory=list)
    log: str | None = None
    restored: bool = False

    def to_json(self) -> str:
        """Return the report for machines."""
        return json.dumps(asdict(self), indent=1)

    def __str__(self) -> str:
        state = "complete" if self.complete else "not complete"
        lines = [
            f"{self.output}: {state}, {self.committed} of {self.shards} shards",
            f"{self.samples} samples: restored, images still protected"
            if self.restored
            else f"{self.samples} samples: {self.protected} protected, {self.quarantined} "
            "quarantined",
        ]
        if self.samples_per_second is not None:
            lines.append(
                f"{self.samples_per_second:.1f} samples/s, "
                f"last commit {self.last_commit_seconds:.0f} s ago"
            )
        if self.passes:
            towers = Passes.by_tower(self.passes)
            lines.append(
                f"passes a sample: {towers['image']:.2f} image tower, {towers['text']:.2f} text "
                f"tower (forward and backward; a forward alone counts a third)"
            )
        if self.waited is not None:
            lines.append(
                f"optimisation waited {self.waited:.1%} of the time; in its queues stood "
                f"{self.queues['decoded']:.0f} decoded and {self.queues['optimised']:.0f} "
                f"optimised samples"
            )
        if self.seconds_left:
            lines.append(f"about {duration(self.seconds_left)} left at this rate")
        if self.retries:
            lines.append(f"{self.retries} storage operations had to be repeated")
        lines += [f"writing now: {run}" for run in self.runs]
        lines += [f"in work: {entry}" for entry in self.working]
        lines += [f"needed {n} attempts: {name}" for name, n in sorted(self.repeated.items())]
        lines += [f"slowest: {name}: {seconds:.1f} s" for name, seconds in self.slowest.items()]
        lines += [f"failed: {name}: {reason}" for name, reason in sorted(self.failed.items())]
        if self.failed:
            lines.append("the traceback of a failed shard: unlearnable status --shard NAME")
        if self.log is not None:
            lines.append(f"log: {self.log}")
        return "\n".join(lines)


def status(config: StatusConfig) -> "StatusReport | ShardStatus":
    """Read the state of an output, or of the shard that is asked for.

    Raises:
        UsageError: the URL holds no run.
    """
    if config.shard is not None:
        return shard_status(config.output, config.shard, config.record)
    if config.watch:
        return watch(config.output, config.record)
    return run_status(config.output, config.record)


def run_status(output: str, record: str | None = None) -> StatusReport:
    """Read the state of a run; ``record`` as in `find_record`.

    Raises:
        UsageError: the URL holds no run.
    """
    record, plan = _plan(output, record)
    leases = read_leases(record)
    ledger = read_ledger(record)
    records = [ledger[shard.name] for shard in plan.shards if shard.name in ledger]
    done = [r for r in records if r.status == "committed" and r.config_hash == plan.config_hash]
    slowest = sorted(done, key=lambda r: -r.timings.get("seconds", 0.0))[:_SLOWEST]
    report = StatusReport(
        output=output,
        record=record,
        config_hash=plan.config_hash,
        complete=storage.exists(storage.join(output, SUCCESS_NAME)),
        shards=len(plan.shards),
        committed=len(done),
        failed={r.shard: r.error or "" for r in records if r.status == "failed"},
        samples=sum(r.samples for r in done),
        protected=sum(r.protected for r in done),
        quarantined=sum(r.quarantined for r in done),
        retries=sum(r.retries for r in done),
        bytes=sum(r.shard_size for r in done),
        passes=_mean_passes(done),
        queues=_mean_queues(done),
        waited=_waited(done),
        slowest={r.shard: r.timings.get("seconds", 0.0) for r in slowest},
        repeated={r.shard: r.attempts for r in records if r.attempts > 1},
        runs=[str(lease) for lease in leases],
        log=_newest_log(record),
        restored="restored_from" in plan.config,
        working=sorted((w for lease in leases for w in lease.in_work), key=lambda w: w.since),
    )
    return _with_rates(report, done) if done else report


def watch(output: str, record: str | None = None) -> StatusReport:
    """Return the state of a run when it has ended; on a terminal it is redrawn meanwhile.

    Raises:
        UsageError: the URL holds no run.
    """
    drawn = 0
    while True:
        started = time.monotonic()
        report = run_status(output, record)
        took = time.monotonic() - started
        screen = sys.stdout.isatty()
        if screen and drawn:
            # Up to the first line of what was drawn, and clear from there on.
            sys.stdout.write(f"\x1b[{drawn}F\x1b[J")
        if not report.runs:
            return report
        if screen:
            size = shutil.get_terminal_size()
            lines = [line[: size.columns - 1] for line in str(report).splitlines()]
            lines = lines[: size.lines - 1]
            drawn = len(lines)
            sys.stdout.write("".join(f"{line}\n" for line in lines))
            sys.stdout.flush()
        time.sleep(max(_WATCH_SECONDS, _WATCH_SHARE * took))


@dataclass(frozen=True)
class ShardStatus:
    """What the ledger says of one shard, and the URL that it was read from."""

    record: LedgerRecord
    input: str

    def to_json(self) -> str:
        """Return it for machines."""
        return json.dumps(asdict(self.record), indent=1)

    def __str__(self) -> str:
        record = self.record
        lines = [
            f"{record.shard}: {record.status}, attempts {record.attempts}",
            f"input: {self.input}",
        ]
        if record.node:
            lines.append(f"node: {record.node}")
        if record.error:
            lines.append(f"reason: {record.error}")
        if record.traceback:
            lines.append(record.traceback.rstrip())
        return "\n".join(lines)


def shard_status(output: str, name: str, record: str | None = None) -> ShardStatus:
    """Read what became of one shard; ``record`` as in `find_record`.

    Raises:
        UsageError: the URL holds no run, or it has no such shard, or nothing became of it yet.
    """
    kept, plan = _plan(output, record)
    shards = {shard.name: shard for shard in plan.shards}
    if name not in shards:
        raise UsageError(f"{output} has no shard {name}; give a name without .tar")
    found = read_record(kept, name)
    if found is None:
        raise UsageError(f"shard {name} of {output} was neither committed nor given up yet")
    return ShardStatus(found, shards[name].url)


def _plan(output: str, given: str | None) -> tuple[str, Plan]:
    """Return the URL of the record, and its plan."""
    record = find_record(output, given)
    plan = read_plan(record)
    if plan is None:
        raise no_run(output, record)
    return record, plan


def _newest_log(record: str) -> str | None:
    folder = storage.join(record, LOG_DIR)
    names = storage.list_names(folder)
    return storage.join(folder, names[-1]) if names else None


def _with_rates(report: StatusReport, done: Sequence[LedgerRecord]) -> StatusReport:
    """Add what follows from the last commits: a run may have stood still for a night before."""
    last = max(r.timings.get("finished", 0.0) for r in done)
    mean = sum(r.timings.get("seconds", 0.0) for r in done) / len(done)
    since = last - max(_RECENT_SECONDS, 10 * mean)
    recent = [r for r in done if r.timings.get("finished", 0.0) > since]
    first = max(since, min(r.timings.get("started", 0.0) for r in recent))
    span = max(last - first, 1e-9)
    left = report.shards - report.committed - len(report.failed)
    return replace(
        report,
        samples_per_second=sum(r.samples for r in recent) / span,
        seconds_left=span / len(recent) * left,
        last_commit_seconds=time.time() - last,
    )


def _waited(done: Sequence[LedgerRecord]) -> float | None:
    """Return the share of all shards' time in which the optimisation had to wait."""
    timed = [r.timings for r in done if "wait_input" in r.timings]
    whole = sum(times["seconds"] for times in timed)
    waited = sum(times["wait_input"] + times["wait_output"] for times in timed)
    return waited / whole if whole else None


def _mean_queues(done: Sequence[LedgerRecord]) -> dict[str, float]:
    """Average what stood in each queue over the shards."""
    seen = [r.queues for r in done if r.queues]
    return {name: fmean(queues[name] for queues in seen) for name in (seen[0] if seen else ())}


def _mean_passes(done: Sequence[LedgerRecord]) -> dict[str, float]:
    """Average the passes of shards, each counted by its protected samples."""
    total = sum(r.protected for r in done)
    kinds = sorted({kind for r in done for kind in r.passes})
    return (
        {k: sum(r.passes.get(k, 0.0) * r.protected for r in done) / total for k in kinds}
        if total
        else {}
    )
