"""What an output itself says about its run: who lost sight of the driver asks the ledger."""

from __future__ import annotations

from dataclasses import replace

from ...data import storage
from ...data.ledger import SUCCESS_NAME, read_ledger
from ...data.plan import read_plan
from .summary import RunSummary, summarise


def verdict(output: str) -> RunSummary | None:
    """Return the summary that a run at its end would have given; None where no run has begun.

    Its exit code is 0 if every shard of the plan is committed, few enough samples are quarantined
    and ``_SUCCESS`` marks the output; else 3. Nothing is known of the time it took.
    """
    plan = read_plan(output)
    if plan is None:
        return None
    ledger = read_ledger(output)
    found = {shard.name: ledger[shard.name] for shard in plan.shards if shard.name in ledger}
    records = {
        name: record
        for name, record in found.items()
        if record.status == "failed" or record.config_hash == plan.config_hash
    }
    allowed = float(plan.request.get("max_quarantined", 1.0))
    summary = summarise(output, plan, records, seconds=0.0, exit_code=0, max_quarantined=allowed)
    if storage.exists(storage.join(output, SUCCESS_NAME)):
        return summary
    return replace(summary, exit_code=3)
