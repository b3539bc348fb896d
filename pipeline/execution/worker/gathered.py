"""What one pass over a shard gathers for its ledger record."""

import logging
import time
from collections import Counter
from dataclasses import dataclass, field, replace

from ...data.manifest import ManifestRow
from ...data.metadata import NOTES, SHOWING
from ...data.shards import ShardReader
from ...data.transient import retries
from ...method.passes import Passes
from .samples import Change, Item
from .streams import Channel
from .told_once import ToldOnce

log = logging.getLogger(__name__)

Job = tuple[Item, Change | None]


@dataclass
class Gathered:
    """What one pass over a shard gathers."""

    told: ToldOnce
    counts: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    seen: set[str] = field(default_factory=set)
    texts: dict[str, list[str]] = field(default_factory=dict)
    passes: Passes = field(default_factory=Passes)
    optimise_seconds: float = 0.0
    optimise_cpu: float = 0.0
    cpu_before: float = field(default_factory=time.process_time)
    losses: list[float] = field(default_factory=list)
    retries_before: int = field(default_factory=retries)
    repeats: int = 0
    first_left_out: str = ""
    timings: dict[str, float] = field(default_factory=dict)
    queues: dict[str, float] = field(default_factory=dict)
    input: dict[str, object] = field(default_factory=dict)
    sha256: str = ""
    size: int = 0
    manifest_sha256: str = ""
    manifest_size: int = 0

    def count(self, row: ManifestRow) -> ManifestRow:
        """Count ``row``; return it with a note when its picture was in the shard before."""
        self.counts[row.status] += 1
        if row.status == "quarantined":
            self.reasons[row.reason or ""] += 1
            return row
        if row.picture_digest in self.seen:
            row = replace(row, notes=[*(row.notes or []), "repeated"])
        self.seen.add(row.picture_digest or "")
        self.notes.update(row.notes or [])
        return row

    def read(self, url: str, reader: ShardReader) -> None:
        """Keep what was read of the shard at ``url``, to its end."""
        self.input = {"url": url, "sha256": reader.sha256, "size": reader.size}
        if reader.left_out:
            self.notes["no_sample"] = reader.left_out
            self.first_left_out = reader.first_left_out

    def tell(self, shard: str) -> None:
        """Log what was done beside pictures and captions."""
        if count := self.notes["no_sample"]:
            told = NOTES["no_sample"]
            log.warning("%s: %d x %s, first %s", shard, count, told, self.first_left_out)
        if self.repeats:
            log.info("%s: %d texts that repeat a caption have its trigger", shard, self.repeats)
        for note in SHOWING:
            if count := self.notes[note]:
                log.warning("%s: %d x %s", shard, count, NOTES[note])

    def observe(self, decoded: Channel[Item], finished: Channel[Job]) -> None:
        """Keep how full the queues before and after the optimiser were and how long it waited."""
        self.queues = {"decoded": decoded.mean_load, "optimised": finished.mean_load}
        self.timings = {
            "wait_input": decoded.reader_waited,
            "wait_output": finished.writer_waited,
        }
