"""What the manifests of a copy say, counted: memory does not depend on the number of samples."""

import heapq
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..data import storage
from ..data.manifest import SCHEMA, manifest_url
from ..errors import ViolationError
from ..seeds import derive_seed

_COLUMNS = (
    "key", "status", "reason", "linf", "psnr", "ssim",
    "loss_before", "loss_after", "trigger_text", "surrogate_sha256",
)  # fmt: skip
_LISTED = 20


class Histogram:
    """Counts in equal bins; values outside the range count in its first or last bin.

    Args:
        low: lower end of the first bin.
        high: upper end of the last bin.
        bins: how many.
    """

    def __init__(self, low: float, high: float, bins: int) -> None:
        self.edges = np.linspace(low, high, bins + 1)
        self.counts = np.zeros(bins, np.int64)

    def add(self, values: npt.NDArray[np.float64]) -> None:
        """Count ``values``; those that are not numbers are left out."""
        found = values[~np.isnan(values)].clip(self.edges[0], self.edges[-1])
        self.counts += np.histogram(found, self.edges)[0]

    @property
    def total(self) -> int:
        """Values counted."""
        return int(self.counts.sum())

    def quantile(self, share: float) -> float:
        """Return the middle of the bin below which ``share`` of the values lie."""
        assert self.total
        place = int(np.searchsorted(np.cumsum(self.counts), share * self.total))
        return float(self.edges[place : place + 2].mean())

    def bars(self, most: int = 40) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        """Return edges [n + 1] and counts [n <= most] of the range that holds values."""
        assert self.total
        used = np.flatnonzero(self.counts)
        first, last = int(used[0]), int(used[-1]) + 1
        step = -(-(last - first) // most)
        last = min(first + -(-(last - first) // step) * step, len(self.counts))
        counts = np.add.reduceat(self.counts[first:last], np.arange(0, last - first, step))
        ends = np.minimum(first + step * np.arange(len(counts) + 1), last)
        return self.edges[ends], counts


def _losses() -> Histogram:
    return Histogram(0.0, 20.0, 1000)


@dataclass
class Tally:
    """Counts over the rows of all manifests.

    Attributes:
        statuses: rows by status.
        reasons: rows that are not protected, by reason.
        left_out: (shard, key, reason) of the first of them.
        linf: protected samples by their largest change, 8-bit levels.
        words: trigger words by how many samples have them.
        surrogates: protected samples by the sha256 of their surrogate.
    """

    statuses: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    left_out: list[tuple[str, str, str]] = field(default_factory=list)
    linf: Counter[int] = field(default_factory=Counter)
    psnr: Histogram = field(default_factory=lambda: Histogram(0.0, 100.0, 1000))
    ssim: Histogram = field(default_factory=lambda: Histogram(0.0, 1.0, 1000))
    loss_before: Histogram = field(default_factory=_losses)
    loss_after: Histogram = field(default_factory=_losses)
    words: Counter[str] = field(default_factory=Counter)
    surrogates: Counter[str] = field(default_factory=Counter)

    def add(self, shard: str, table: pa.Table) -> None:
        """Count the rows of one manifest."""
        self.statuses.update(table["status"].to_pylist())
        left_out = table.filter(pc.not_equal(table["status"], "protected"))
        reasons = [reason or "not stated" for reason in left_out["reason"].to_pylist()]
        self.reasons.update(reasons)
        room = max(0, _LISTED - len(self.left_out))
        keys = left_out["key"].slice(0, room).to_pylist()
        self.left_out += [(shard, key, why) for key, why in zip(keys, reasons, strict=False)]
        self.linf.update(_counts(table["linf"]))
        for name in ("psnr", "ssim", "loss_before", "loss_after"):
            getattr(self, name).add(table[name].drop_null().to_numpy())
        words = pc.list_flatten(pc.utf8_split_whitespace(table["trigger_text"].drop_null()))
        self.words.update({word: n for word, n in _counts(words).items() if word})
        self.surrogates.update(_counts(table["surrogate_sha256"]))


def tally(record: str, shards: Sequence[str]) -> Tally:
    """Read the manifests of ``shards`` in a record, some at a time.

    Raises:
        ViolationError: one is missing or no manifest.
    """
    found = Tally()
    with ThreadPoolExecutor(4) as pool:
        for start in range(0, len(shards), 64):
            part = shards[start : start + 64]
            for shard, table in zip(part, pool.map(partial(_table, record), part), strict=True):
                found.add(shard, table)
    return found


def choose(
    record: str, protected: Iterable[tuple[str, int]], count: int, seed: int
) -> dict[str, list[str]]:
    """Choose ``count`` protected samples from no more shards than samples.

    Every second one is where the change shows most (lowest SSIM), the others are drawn by hash.

    Args:
        record: URL of the record of the copy.
        protected: each shard with the number of its protected samples.
        count: samples wanted.
        seed: of the choice.

    Returns:
        keys by shard, shards in the order given.
    """
    shards = [shard for shard, samples in protected if samples]
    ranked = {shard: derive_seed(seed, "shard", shard) for shard in shards}
    picked = set(heapq.nsmallest(count, shards, key=ranked.__getitem__))
    names = [shard for shard in shards if shard in picked]
    plainest, drawn = [], []
    for place, shard in enumerate(names):
        table = _table(record, shard)
        table = table.filter(pc.equal(table["status"], "protected"))
        ssim = pc.fill_null(table["ssim"], 1.0).to_pylist()
        rows = [(one, place, key) for one, key in zip(ssim, table["key"].to_pylist(), strict=True)]
        plainest += heapq.nsmallest(count // 2, rows)
        draws = [(derive_seed(seed, shard, key), place, key) for _, _, key in rows]
        drawn += heapq.nsmallest(2 * -(-count // len(names)), draws)
    first = [sample[1:] for sample in heapq.nsmallest(count // 2, plainest)]
    others = [sample[1:] for sample in sorted(drawn) if sample[1:] not in first]
    chosen: dict[str, list[str]] = {}
    for place, key in sorted([*first, *others[: count - len(first)]]):
        chosen.setdefault(names[place], []).append(key)
    return chosen


def _table(record: str, shard: str) -> pa.Table:
    url = manifest_url(record, shard)
    try:
        table = pq.read_table(io.BytesIO(storage.read_bytes(url)), columns=list(_COLUMNS))
        return table.cast(pa.schema([SCHEMA.field(name) for name in _COLUMNS]))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ViolationError(
            f"{url} is not a readable manifest ({error}); `unlearnable verify` tells more"
        ) from error


def _counts(column: pa.ChunkedArray) -> dict[Any, int]:
    found = pc.value_counts(column.drop_null())
    return dict(zip(found.field(0).to_pylist(), found.field(1).to_pylist(), strict=True))
