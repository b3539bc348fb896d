"""`status`: how far a run is, from its plan and ledger alone, from any machine, at any time."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace

from ..data import storage
from ..data.ledger import SUCCESS_NAME, LedgerRecord, read_ledger
from ..data.plan import read_plan
from ..errors import UsageError
from .config import StatusConfig

_SLOWEST = 5


@dataclass(frozen=True)
class StatusReport:
    """The state of an output.

    Attributes:
        output: URL of the output directory.
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
        samples_per_second: over the time that the committed shards took; None before the first.
        seconds_left: estimate at that rate; None before the first.
        last_commit_seconds: time since the last commit; None before the first.
        passes: passes through the surrogate for each protected sample, by kind.
        slowest: seconds by name of the slowest shards.
    """

    output: str
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
    slowest: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return the report for machines."""
        return json.dumps(asdict(self), indent=1)

    def __str__(self) -> str:
        state = "complete" if self.complete else "not complete"
        lines = [
            f"{self.output}: {state}, {self.committed} of {self.shards} shards",
            f"{self.samples} samples: {self.protected} protected, {self.quarantined} quarantined",
        ]
        if self.samples_per_second is not None:
            lines.append(
                f"{self.samples_per_second:.1f} samples/s, "
                f"last commit {self.last_commit_seconds:.0f} s ago"
            )
        if self.seconds_left:
            lines.append(f"about {self.seconds_left:.0f} s left at this rate")
        lines += [f"slowest: {name}: {seconds:.1f} s" for name, seconds in self.slowest.items()]
        lines += [f"failed: {name}: {reason}" for name, reason in sorted(self.failed.items())]
        return "\n".join(lines)


def status(config: StatusConfig) -> StatusReport:
    """Read the state of an output.

    Raises:
        UsageError: the URL holds no run.
    """
    plan = read_plan(config.output)
    if plan is None:
        raise UsageError(
            f"{config.output} holds no run: it has no plan; give the folder that protect writes to"
        )
    ledger = read_ledger(config.output)
    records = [ledger[shard.name] for shard in plan.shards if shard.name in ledger]
    done = [r for r in records if r.status == "committed" and r.config_hash == plan.config_hash]
    slowest = sorted(done, key=lambda r: -r.timings.get("seconds", 0.0))[:_SLOWEST]
    report = StatusReport(
        output=config.output,
        config_hash=plan.config_hash,
        complete=storage.exists(storage.join(config.output, SUCCESS_NAME)),
        shards=len(plan.shards),
        committed=len(done),
        failed={r.shard: r.error or "" for r in records if r.status == "failed"},
        samples=sum(r.samples for r in done),
        protected=sum(r.protected for r in done),
        quarantined=sum(r.quarantined for r in done),
        retries=sum(r.retries for r in done),
        bytes=sum(r.shard_size for r in done),
        passes=_mean_passes(done),
        slowest={r.shard: r.timings.get("seconds", 0.0) for r in slowest},
    )
    return _with_rates(report, done) if done else report


def _with_rates(report: StatusReport, done: Sequence[LedgerRecord]) -> StatusReport:
    first = min(r.timings.get("started", 0.0) for r in done)
    last = max(r.timings.get("finished", 0.0) for r in done)
    span = max(last - first, 1e-9)
    left = report.shards - report.committed - len(report.failed)
    return replace(
        report,
        samples_per_second=report.samples / span,
        seconds_left=span / len(done) * left,
        last_commit_seconds=time.time() - last,
    )


def _mean_passes(done: Sequence[LedgerRecord]) -> dict[str, float]:
    """Average the passes of shards, each counted by its protected samples."""
    total = sum(r.protected for r in done)
    kinds = sorted({kind for r in done for kind in r.passes})
    return (
        {k: sum(r.passes.get(k, 0.0) * r.protected for r in done) / total for k in kinds}
        if total
        else {}
    )
