"""Taking in finished shards: what every run does in its driver."""

from __future__ import annotations

import logging
from collections.abc import Iterable, MutableMapping

from ...data.ledger import LedgerRecord, write_record
from .progress import Progress

log = logging.getLogger(__name__)


def gather(
    output: str,
    finished: Iterable[LedgerRecord],
    total: int,
    records: MutableMapping[str, LedgerRecord],
) -> None:
    """Add ``finished`` shards to ``records``, write down those that failed, show progress.

    Args:
        output: URL of the output directory.
        finished: final records; the committed ones have been written by their workers.
        total: shards of the plan.
        records: those of earlier runs; added to.
    """
    with Progress(total, len(records)) as progress:
        for record in finished:
            if record.status == "failed":
                log.error("shard %s failed: %s", record.shard, record.error)
                write_record(output, record)
            records[record.shard] = record
            progress.update(record.samples, record.timings.get("started"))
