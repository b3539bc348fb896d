"""Checks of one published shard: record, manifest, and its samples in one streaming pass."""

from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice

from ..data import storage
from ..data.ledger import LedgerRecord, read_record
from ..data.manifest import STATUSES, ManifestRow, manifest_url, open_manifest
from ..data.plan import Plan
from ..data.shards import Sample, ShardReader, open_shard
from ..errors import ShardError, UsageError, ViolationError
from ..method.models import Tokenizer
from .findings import Findings
from .picture_checks import Problem
from .sample_checks import (
    Rules,
    check_against,
    check_original,
    check_published,
    check_row,
    load_tokenizer,
)
from .sidecar_checks import check_sidecars

# Samples out of order wait for their partner; more than this are given up, so memory stays bounded.
_WINDOW = 64
_CHUNK = 8

Pair = tuple[Sample | None, Sample | None]
"""The original and the published sample of one key; None where there is none to look at."""


@dataclass
class ShardCheck:
    """One shard under verification."""

    output: str
    record: str
    plan: Plan
    rules: Rules
    name: str
    original: str | None
    findings: Findings
    rows: dict[str, ManifestRow] = field(default_factory=dict)
    tokenizer: Tokenizer | None = None
    broken: set[str] = field(default_factory=set)

    def run(self, pool: ThreadPoolExecutor) -> None:
        """Check everything about the shard."""
        record = self._check_record()
        if record is None or not self._check_manifest(record):
            return
        with ExitStack() as stack:
            try:
                published = stack.enter_context(open_shard(self._shard_url()))
            except ShardError as error:
                self._add("shard_unreadable", "", str(error))
                return
            original = self._open_original(stack)
            self._check_samples(pool, published, original)
            self._check_whole(record, published, original)
        for found in check_sidecars(self._shard_url(), self.original, self.rows, self.rules.fields):
            self._add(*found)

    def _add(self, code: str, key: str, message: str) -> None:
        self.findings.add(code, self.name, key, message)

    def _shard_url(self) -> str:
        return storage.join(self.output, f"{self.name}.tar")

    def _check_record(self) -> LedgerRecord | None:
        try:
            record = read_record(self.record, self.name)
        except UsageError as error:
            self._add("ledger_missing", "", str(error))
            return None
        if record is None:
            self._add("ledger_missing", "", "no record commits this shard")
        elif record.status != "committed":
            self._add("shard_failed", "", record.error or "failed")
            record = None
        elif (record.shard, record.config_hash) != (self.name, self.plan.config_hash):
            message = f"the record is of shard {record.shard}, config {record.config_hash}"
            self._add("ledger_mismatch", "", message)
        return record

    def _check_manifest(self, record: LedgerRecord) -> bool:
        """Read and check the manifest; False when there is nothing to compare samples with."""
        url = manifest_url(self.record, self.name)
        try:
            with open_manifest(url) as manifest:
                found = manifest.sha256, manifest.size
                if found != (record.manifest_sha256, record.manifest_size):
                    stated = record.manifest_sha256, record.manifest_size
                    message = f"sha256 and size {found}, the record says {stated}"
                    self._add("manifest_changed", "", message)
                self._check_metadata(manifest.metadata)
                self._check_counts(self._check_rows(manifest), record)
        except (OSError, ViolationError) as error:
            self._add("manifest_unreadable", "", str(error))
            return False
        return True

    def _check_counts(self, counts: Counter[str], record: LedgerRecord) -> None:
        for status in STATUSES:
            if counts[status] != getattr(record, status):
                message = (
                    f"{counts[status]} rows {status}, the record says {getattr(record, status)}"
                )
                self._add("ledger_mismatch", "", message)
        if counts.total() != record.samples:
            message = f"{counts.total()} rows, the record says {record.samples}"
            self._add("ledger_mismatch", "", message)

    def _check_metadata(self, metadata: dict[str, str]) -> None:
        expected = {
            "shard": self.name,
            "config_hash": self.plan.config_hash,
            "version": self.plan.version,
            "surrogate_sha256": self.rules.surrogate_sha256,
            "epsilon": str(self.rules.epsilon),
            "trigger_words": str(self.rules.trigger_words),
        }
        for entry, value in expected.items():
            if metadata.get(entry) != value:
                message = f"the manifest's {entry} is {metadata.get(entry)!r}, the plan's {value!r}"
                self._add("manifest_foreign", "", message)
        if self.rules.trigger_words:
            try:
                self.tokenizer = load_tokenizer(metadata)
            except (KeyError, ValueError) as error:
                self._add(
                    "manifest_foreign", "", f"no tokenizer to check the captions with: {error}"
                )

    def _check_rows(self, rows: Iterable[ManifestRow]) -> Counter[str]:
        """Keep the rows by key and check each; return how many there are of each status."""
        counts: Counter[str] = Counter()
        for place, row in enumerate(rows):
            if row.key in self.rows:
                self._add("row_invalid", row.key, "a second row of this key")
            if (row.row, row.shard) != (place, self.name):
                message = f"row {row.row} of {row.shard}, expected {place} of {self.name}"
                self._add("row_invalid", row.key, message)
            for code, message in check_row(row, self.rules):
                self._add(code, row.key, message)
            self.rows[row.key] = row
            counts[row.status] += 1
        return counts

    def _open_original(self, stack: ExitStack) -> ShardReader | None:
        if self.original is None:
            return None
        try:
            return stack.enter_context(open_shard(self.original))
        except ShardError as error:
            self._add("input_unreadable", "", str(error))
            return None

    def _check_samples(
        self, pool: ThreadPoolExecutor, published: ShardReader, original: ShardReader | None
    ) -> None:
        outputs = self._in_order(self._guarded(published, "shard_unreadable"))
        inputs = self._guarded(original, "input_unreadable") if original is not None else ()
        seen_in: set[str] = set()
        seen_out: set[str] = set()
        compared = 0
        both = {row.key for row in self.rows.values() if row.status != "quarantined"}
        pairs = _join(inputs, outputs, both if original is not None else set())
        while chunk := list(islice(pairs, _CHUNK)):
            for one, other in chunk:
                seen_in.update([one.key] if one is not None else [])
                seen_out.update([other.key] if other is not None else [])
                compared += one is not None and other is not None
            checked = pool.map(self._check_pair, chunk)
            for (one, other), problems in zip(chunk, checked, strict=True):
                sample = other or one
                assert sample is not None, "a pair holds a sample"
                for code, message in problems:
                    self._add(code, sample.key, message)
        self._check_complete(seen_in, seen_out, compared=original is not None)
        alone = len(seen_in & seen_out & both) - compared
        if alone:
            self._add("not_compared", "", f"{alone} samples are more than {_WINDOW} places off")
        self.findings.samples += len(seen_out)

    def _check_pair(self, pair: Pair) -> list[Problem]:
        one, other = pair
        sample = other or one
        assert sample is not None, "a pair holds a sample"
        row = self.rows.get(sample.key)
        problems: list[Problem] = []
        if other is not None:
            if row is None or row.status == "quarantined":
                reason = "has no row" if row is None else "was quarantined"
                return [("sample_added", f"the published sample {reason}")]
            problems += check_published(other, row, self.rules, self.tokenizer)
        if one is not None:
            if row is None:
                return [("row_missing", f"place {one.row} of the input has no row")]
            if other is not None:
                problems += check_against(one, other, row, self.rules)
            else:
                problems += check_original(one, row, self.rules)
        return problems

    def _check_complete(self, seen_in: set[str], seen_out: set[str], *, compared: bool) -> None:
        for key, row in self.rows.items():
            if (
                key not in seen_out
                and row.status != "quarantined"
                and "shard_unreadable" not in self.broken
            ):
                self._add("sample_missing", key, f"row {row.row} says {row.status}")
            if compared and key not in seen_in and "input_unreadable" not in self.broken:
                self._add("row_without_input", key, f"row {row.row} has no sample in the input")

    def _check_whole(
        self, record: LedgerRecord, published: ShardReader, original: ShardReader | None
    ) -> None:
        if "shard_unreadable" not in self.broken:
            found = published.sha256, published.size
            if found != (record.shard_sha256, record.shard_size):
                stated = record.shard_sha256, record.shard_size
                self._add("shard_changed", "", f"sha256 and size {found}, the record says {stated}")
        if original is None or "input_unreadable" in self.broken:
            return
        if original.sha256 != record.input.get("sha256"):
            stated_input = record.input.get("sha256")
            message = f"sha256 {original.sha256}, the record says {stated_input}"
            self._add("input_changed", "", message)

    def _guarded(self, reader: ShardReader, code: str) -> Iterator[Sample]:
        """Yield samples up to the first damage, which becomes a violation."""
        try:
            yield from reader
        except (ShardError, OSError) as error:
            self.broken.add(code)
            self._add(code, "", str(error))

    def _in_order(self, samples: Iterable[Sample]) -> Iterator[Sample]:
        """Yield published samples, watching that rows only go up."""
        highest = -1
        for sample in samples:
            row = self.rows.get(sample.key)
            if row is not None:
                if row.row < highest:
                    self._add(
                        "sample_order", sample.key, f"row {row.row} stands behind row {highest}"
                    )
                highest = max(highest, row.row)
            yield sample


def _join(inputs: Iterable[Sample], outputs: Iterable[Sample], both: set[str]) -> Iterator[Pair]:
    """Pair two streams by key with bounded memory.

    Args:
        inputs: originals.
        outputs: published samples.
        both: keys that should be on both sides; other samples are passed on alone at once.
    """
    waiting: tuple[dict[str, Sample], dict[str, Sample]] = ({}, {})
    streams = (iter(inputs), iter(outputs))
    open_streams = [True, True]
    while any(open_streams):
        for side in (0, 1):
            sample = next(streams[side], None) if open_streams[side] else None
            # Samples without a partner do not count as a step, or the sides would drift apart.
            while sample is not None and sample.key not in both:
                yield _pair(side, sample, None)
                sample = next(streams[side], None)
            if sample is None:
                open_streams[side] = False
                continue
            partner = waiting[1 - side].pop(sample.key, None)
            if partner is not None:
                yield _pair(side, sample, partner)
                continue
            waiting[side][sample.key] = sample
            if len(waiting[side]) > _WINDOW:
                yield _pair(side, waiting[side].pop(next(iter(waiting[side]))), None)
    for side in (0, 1):
        for sample in waiting[side].values():
            yield _pair(side, sample, None)


def _pair(side: int, sample: Sample, partner: Sample | None) -> Pair:
    return (sample, partner) if side == 0 else (partner, sample)
