"""What a run tells at its end."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ...data import storage
from ...data.ledger import SUCCESS_NAME, LedgerRecord, read_ledger
from ...data.manifest import MANIFEST_DIR
from ...data.metadata import NOTES
from ...data.plan import Plan, read_plan
from ...data.record import find_record
from ...method.passes import Passes
from .progress import duration

# Failed shards that are named: a task's log is read by people.
_SHOWN = 20


@dataclass(frozen=True)
class RunSummary:
    """The end of a run, or with ``estimated_bytes`` what a run would be.

    Attributes:
        output: URL of the output directory.
        record: URL of its record.
        exit_code: 0, 3, 130 or 143.
        shards: shards of the plan.
        committed: shards that are done, those of earlier runs included.
        failed: reason by name of each failed shard.
        samples: samples read.
        protected: samples published with protection.
        quarantined: samples not published.
        reasons: quarantined samples by reason.
        notes: protected samples by what is noted of them.
        max_quarantined: share of the samples above which they are too many.
        seconds: time this run took.
        estimated_bytes: dry run only: disk space that the output will take.
        estimated_worker_seconds: dry run only: seconds of work, over all workers.
        estimated_seconds: dry run only: seconds until the end.
        estimated_passes: dry run only: forward+backward passes of a sample through each tower.
        estimated_model_bytes: dry run only: memory of the surrogate's models in each worker.
        estimated_cost: dry run only: worker hours times the price of one; None without a price.
        restored: whether the samples were restored, not protected.
    """

    output: str
    record: str
    exit_code: int = 0
    shards: int = 0
    committed: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    samples: int = 0
    protected: int = 0
    quarantined: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)
    max_quarantined: float = 1.0
    seconds: float = 0.0
    estimated_bytes: int | None = None
    estimated_worker_seconds: float = 0.0
    estimated_seconds: float = 0.0
    estimated_passes: dict[str, float] = field(default_factory=dict)
    estimated_model_bytes: int = 0
    estimated_cost: float | None = None
    restored: bool = False

    @property
    def too_many_quarantined(self) -> bool:
        """Whether more samples are quarantined than allowed."""
        return self.quarantined > self.max_quarantined * self.samples

    @property
    def nothing_protected(self) -> bool:
        """Whether every shard is committed and holds no protected sample."""
        return not self.protected and 0 < self.shards == self.committed

    def __str__(self) -> str:
        if self.estimated_bytes is not None:
            return self._estimate(self.estimated_bytes)
        samples = (
            f"{self.samples} samples restored (captions as they were, images still protected)"
            if self.restored
            else f"{self.protected} of {self.samples} samples protected, {self.quarantined} "
            "quarantined"
        )
        done = (
            f"{self.output}: {self.committed} of {self.shards} shards, {samples}, "
            f"{self.seconds:.1f} s"
        )
        lines = [done]
        failed = [f"failed: {name}: {reason}" for name, reason in sorted(self.failed.items())]
        lines += failed[:_SHOWN]
        if len(failed) > _SHOWN:
            lines.append(
                f"failed: {len(failed) - _SHOWN} shards more; `unlearnable status {self.output}` "
                f"names all"
            )
        lines += self._of_samples()
        if self.too_many_quarantined:
            lines.append(
                f"more than the allowed share of {self.max_quarantined:g} is quarantined: the "
                f"column `reason` of {storage.join(self.record, MANIFEST_DIR)} tells why; mend "
                f"the samples and protect them to a new output, or raise --max-quarantined"
            )
        left = self.shards - self.committed - len(self.failed)
        if left and self.exit_code == 3:
            lines.append(f"{left} shards were never begun; run the protect command again")
        if self.exit_code in (130, 143):
            lines.append("interrupted; run the same command to resume")
        return "\n".join(lines)

    def _of_samples(self) -> list[str]:
        """Return lines on what is noted of samples, and why some are not protected."""
        lines = [f"{count} x {NOTES.get(note, note)}" for note, count in self.notes.items()]
        if self.reasons:
            told = ", ".join(f"{reason} {count}" for reason, count in self.reasons.items())
            lines.append(f"quarantined: {told}")
        if self.nothing_protected:
            lines.append(
                f"nothing is protected: {self.samples} samples in {self.shards} shards, none of "
                f"them usable, so there is no {SUCCESS_NAME}; a sample needs a picture and a "
                f"caption under one key"
            )
        return lines

    def _estimate(self, size: int) -> str:
        rate = self.samples / self.estimated_worker_seconds if self.estimated_worker_seconds else 0
        cost = "" if self.estimated_cost is None else f", which cost {self.estimated_cost:,.2f}"
        return (
            f"{self.output}: {self.committed} of {self.shards} shards are done; the others hold "
            f"about {self.samples} samples and need about {size / 1e6:.1f} MB. A trial of a few "
            f"batches on this machine ran at {rate:.1f} samples/s, so this takes about "
            f"{duration(self.estimated_worker_seconds)} of one worker{cost}; the end comes after "
            f"about {duration(self.estimated_seconds)}. A sample takes "
            f"{Passes.told(self.estimated_passes)}; the surrogate's models hold "
            f"{self.estimated_model_bytes / 1e6:,.0f} MB in each worker. Nothing was written."
        )


def summarise(
    output: str,
    record: str,
    plan: Plan,
    records: Mapping[str, LedgerRecord],
    *,
    seconds: float,
    exit_code: int,
    max_quarantined: float = 1.0,
) -> RunSummary:
    """Count ``records`` and settle the exit code of a run that was not interrupted."""
    failed: dict[str, str] = {}
    samples = protected = quarantined = 0
    reasons: Counter[str] = Counter()
    notes: Counter[str] = Counter()
    for found in records.values():
        if found.status == "failed":
            failed[found.shard] = found.error or ""
        samples += found.samples
        protected += found.protected
        quarantined += found.quarantined
        reasons.update(found.reasons)
        notes.update(found.notes)
    summary = RunSummary(
        output=output,
        record=record,
        exit_code=exit_code,
        shards=len(plan.shards),
        committed=len(records) - len(failed),
        failed=failed,
        samples=samples,
        protected=protected,
        quarantined=quarantined,
        reasons=dict(reasons.most_common()),
        notes=dict(notes.most_common()),
        max_quarantined=max_quarantined,
        seconds=seconds,
    )
    incomplete = summary.committed < summary.shards or summary.nothing_protected
    if not exit_code and (incomplete or summary.too_many_quarantined):
        return replace(summary, exit_code=3)
    return summary


def outcome_of(output: str, record: str | None = None) -> RunSummary | None:
    """Return the summary that a run at its end would have given; None where no run has begun.

    Its exit code is 0 if every shard of the plan is committed, few enough samples are quarantined
    and ``_SUCCESS`` marks the output; else 3. Nothing is known of the time it took.
    """
    record = find_record(output, record)
    plan = read_plan(record)
    if plan is None:
        return None
    ledger = read_ledger(record)
    found = {shard.name: ledger[shard.name] for shard in plan.shards if shard.name in ledger}
    records = {
        name: one
        for name, one in found.items()
        if one.status == "failed" or one.config_hash == plan.config_hash
    }
    allowed = float(plan.request.get("max_quarantined", 1.0))
    summary = summarise(
        output, record, plan, records, seconds=0.0, exit_code=0, max_quarantined=allowed
    )
    if storage.exists(storage.join(output, SUCCESS_NAME)):
        return summary
    return replace(summary, exit_code=3)
