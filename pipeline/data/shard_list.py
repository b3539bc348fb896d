"""Input shards: one, and lists of a million."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Self, overload

import pyarrow as pa

SHARD_SCHEMA = pa.schema(
    [
        pa.field("name", pa.string(), nullable=False),
        pa.field("url", pa.string(), nullable=False),
        pa.field("size", pa.int64()),
        pa.field("etag", pa.string()),
    ]
)
# Arrow's own pool keeps tens of MB.
POOL = pa.system_memory_pool()
_CHUNK = 1 << 12


@dataclass(frozen=True, slots=True)
class ShardInput:
    """One input shard.

    Args:
        name: file name without ``.tar``; names the output files.
        url: where it is read from.
        size: bytes, or None when it is missing or the server does not say.
        etag: version mark of the store, or None.
    """

    name: str
    url: str
    size: int | None = None
    etag: str | None = None


class ShardList(Sequence[ShardInput]):
    """Shards in a fixed order, as columns: a third of the memory that a tuple of them takes.

    Args:
        table: columns as in ``SHARD_SCHEMA``.
    """

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    @classmethod
    def of(cls, shards: Iterable[ShardInput]) -> Self:
        """Return a list of ``shards``."""
        rest = iter(shards)
        batches = []
        while part := list(islice(rest, _CHUNK)):
            columns = [[getattr(s, name) for s in part] for name in SHARD_SCHEMA.names]
            arrays = [
                pa.array(column, field.type, memory_pool=POOL)
                for column, field in zip(columns, SHARD_SCHEMA, strict=True)
            ]
            batches.append(pa.RecordBatch.from_arrays(arrays, schema=SHARD_SCHEMA))
        return cls(pa.Table.from_batches(batches, SHARD_SCHEMA))

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @overload
    def __getitem__(self, index: int) -> ShardInput: ...
    @overload
    def __getitem__(self, index: slice) -> "ShardList": ...
    def __getitem__(self, index: int | slice) -> "ShardInput | ShardList":
        if isinstance(index, slice):
            return self.take(range(*index.indices(len(self))))
        row = range(len(self))[index]
        return ShardInput(*(column[row].as_py() for column in self.table.columns))

    def take(self, rows: Sequence[int]) -> "ShardList":
        """Return the shards at ``rows``, in that order."""
        return ShardList(self.table.take(pa.array(rows, pa.int64())))

    def __iter__(self) -> Iterator[ShardInput]:
        for batch in self.table.to_batches(_CHUNK):
            yield from map(ShardInput, *(column.to_pylist() for column in batch.columns))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        if isinstance(other, ShardList):
            return bool(self.table.equals(other.table))
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]
