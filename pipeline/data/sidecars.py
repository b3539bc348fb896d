"""The files that crawlers write beside a shard, kept true to what is published.

The layout is that of img2dataset: ``NNNNN.parquet`` has a row for each URL that was asked for, and
``NNNNN_stats.json`` counts how that went. Both are looked for beside a shard and written beside its
protected copy; the shard's own ``.json`` members keep what the crawler noted of the download.
"""

import io
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..errors import ShardError
from . import storage
from .captions import placed, plain
from .formats import HEAD, holds_coded_picture, is_picture

log = logging.getLogger(__name__)

SIDECARS = (TABLE := ".parquet", "_stats.json")
"""What their names add to the shard's."""

MANIFEST_COLUMNS = (
    "key", "status", "reason", "output_sha256", "width", "height", "trigger_text",
)  # fmt: skip
"""What they are made from."""

OWN_COLUMNS = ("sha256", "width", "height", "status", "error_message")
"""Columns of a table, besides captions, that describe what is published."""

Facts = Mapping[str, Mapping[str, Any]]
"""``MANIFEST_COLUMNS`` of the rows of a manifest, by key."""

# Hashes of what was crawled: whoever has them finds the original of a picture.
_SOURCE_HASHES = ("source_sha256", "md5", "sha512")
_MAX_ROWS = 10_000_000
_MAX_BYTES = 1 << 30


def publish_sidecars(
    shard_url: str, output: str, name: str, manifest: Path, fields: Sequence[str]
) -> None:
    """Write the crawler's files of one shard beside its protected copy; without such, do nothing.

    In the table, the rows of samples in the shard get the ``sha256``, ``width`` and ``height`` of
    the published image and the published caption; other hashes of what was crawled are left out,
    and so are columns that hold pictures. A text that repeats its row's caption gets the trigger.
    A quarantined sample has no hash and the status ``quarantined``. In the counts, ``successes``
    becomes the number of published samples, as readers take it for the size of the shard, and
    ``status_dict`` counts what the table's ``status`` says.

    Args:
        shard_url: the input shard; on a web server nothing is looked for.
        output: output prefix.
        name: of the shard.
        manifest: its finished manifest, a local file.
        fields: columns that hold captions.

    Raises:
        ShardError: a file is damaged.
    """
    for end in SIDECARS:
        data = read_sidecar(shard_url, end)
        if data is None:
            continue
        rows = pq.read_table(manifest, columns=list(MANIFEST_COLUMNS)).to_pylist()
        converted = convert(shard_url, end, data, {row["key"]: row for row in rows}, fields)
        if converted is None:
            url = sidecar_url(shard_url, end)
            log.warning("%s is not what a crawler writes beside a shard and is left behind", url)
        else:
            storage.write_bytes(storage.join(output, name + end), converted)


def sidecar_url(shard_url: str, end: str) -> str:
    """Return where the file beside a shard is looked for."""
    return shard_url.removesuffix(".tar") + end


def read_sidecar(shard_url: str, end: str) -> bytes | None:
    """Read a file beside a shard; None where there is none or, on a web server, none looked for."""
    if storage.is_http(shard_url) or not shard_url.endswith(".tar"):
        return None
    try:
        return storage.read_bytes(sidecar_url(shard_url, end))
    # A store may deny what is missing when its lists are not ours to read.
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError):
        return None


def convert(
    shard_url: str, end: str, data: bytes, facts: Facts, fields: Sequence[str]
) -> bytes | None:
    """Return what is published of a file beside an input shard; None when no crawler wrote it.

    Raises:
        ShardError: it is damaged.
    """
    try:
        make = _convert_table if end == TABLE else _convert_stats
        return make(data, facts, fields)
    except (pa.ArrowException, ValueError, RecursionError) as error:
        url = sidecar_url(shard_url, end)
        raise ShardError(
            f"{url}: the file beside the shard cannot be read ({error}); mend or remove it"
        ) from error


def is_crawlers(table: pa.Table) -> bool:
    """Whether a table has the column that tells which row is which sample's."""
    return "key" in table.column_names and pa.types.is_string(table.schema.field("key").type)


def _convert_table(data: bytes, rows: Facts, fields: Sequence[str]) -> bytes | None:
    table = read_table(data)
    if not is_crawlers(table):
        return None
    found = [rows.get(key) for key in table["key"].to_pylist()]
    table = table.drop_columns([name for name in _SOURCE_HASHES if name in table.column_names])
    table = _with_repeats(_without_pictures(table), found, fields)
    for name in (*OWN_COLUMNS, *fields):
        if name not in table.column_names:
            continue
        values = [
            value if row is None else column_value(name, value, row)
            for value, row in zip(table[name].to_pylist(), found, strict=True)
        ]
        table = _with_values(table, name, values)
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def _with_values(table: pa.Table, name: str, values: list[Any]) -> pa.Table:
    place = table.schema.get_field_index(name)
    field = table.schema.field(place)
    return table.set_column(place, field, pa.array(values, field.type))


def _without_pictures(table: pa.Table) -> pa.Table:
    """Leave out columns that hold pictures as bytes or in base64: nobody protects them."""
    shown = [name for name in table.column_names if any(map(_shows, table[name].chunks))]
    if shown:
        log.warning("the columns %s beside a shard hold pictures; left out", ", ".join(shown))
    return table.drop_columns(shown)


def _shows(values: pa.Array) -> bool:
    """Whether any of the values, at any depth, is a picture."""
    if pa.types.is_struct(values.type):
        return any(map(_shows, values.flatten()))
    if pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
        return _shows(values.flatten())
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        return any(holds_coded_picture(text.encode()) for text in values.to_pylist() if text)
    if pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type):
        return any(is_picture("", data[:HEAD]) for data in values.to_pylist() if data)
    return False


def _with_repeats(
    table: pa.Table, found: Sequence[Mapping[str, Any] | None], fields: Sequence[str]
) -> pa.Table:
    """Put the trigger before what repeats a caption of its row in a column of texts."""
    names = {field.name for field in table.schema if pa.types.is_string(field.type)}
    captions = table.select([name for name in fields if name in table.column_names]).to_pylist()
    known = [set(map(plain, _flat(row.values()))) for row in captions]
    for name in sorted(names - {*fields, *OWN_COLUMNS, "key"}):
        values = [
            _captions(text, (row or {}).get("trigger_text"))
            if text is not None and plain(text) in repeated
            else text
            for text, row, repeated in zip(table[name].to_pylist(), found, known, strict=True)
        ]
        table = _with_values(table, name, values)
    return table


def _flat(values: Iterable[Any]) -> Iterator[str]:
    for value in values:
        parts = value if isinstance(value, list) else [value]
        yield from (str(part) for part in parts if part is not None)


def read_table(data: bytes) -> pa.Table:
    """Read a Parquet file that may be made to exhaust memory.

    Raises:
        ValueError, pa.ArrowException: it cannot be read, or is too large when it is unpacked.
    """
    try:
        columns = pq.ParquetFile(io.BytesIO(data)).metadata.schema
        leaves = [columns.column(place) for place in range(len(columns))]
        texts = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"]
        # A text that is kept once and repeated in every row is only unpacked where that is asked.
        packed = pq.ParquetFile(io.BytesIO(data), read_dictionary=texts)
        if packed.metadata.num_rows > _MAX_ROWS:
            raise ValueError(f"{packed.metadata.num_rows} rows")
        size = sum(map(_unpacked_size, packed.read(use_threads=False).columns))
        if size > _MAX_BYTES:
            raise ValueError(f"{size} bytes when it is unpacked")
        return pq.read_table(io.BytesIO(data), use_threads=False)
    # Arrow reports some damages as OSError.
    except OSError as error:
        raise ValueError(str(error)) from error


def _unpacked_size(column: pa.ChunkedArray) -> int:
    """Bytes that the values of a column take when each stands for itself."""
    size = 0
    for part in column.chunks:
        size += part.nbytes
        while pa.types.is_list(part.type) or pa.types.is_large_list(part.type):
            part = part.flatten()  # noqa: PLW2901 - level by level
        if pa.types.is_dictionary(part.type) and pa.types.is_string(part.type.value_type):
            lengths = pc.binary_length(part.dictionary)
            size += pc.sum(pc.take(lengths, part.indices)).as_py() or 0
    return size


def column_value(name: str, value: Any, row: Mapping[str, Any]) -> Any:
    """Return what stands in the column ``name`` for a sample of the shard, ``value`` before."""
    if row["status"] == "quarantined":
        told = {"sha256": None, "status": "quarantined", "error_message": row["reason"]}
        return told.get(name, value)
    if name in ("width", "height"):
        return row[name]
    if name == "sha256":
        return row["output_sha256"]
    return value if name in ("status", "error_message") else _captions(value, row["trigger_text"])


def _captions(value: Any, trigger: str | None) -> Any:
    if not trigger or value is None:
        return value
    if isinstance(value, list):
        return [_captions(text, trigger) for text in value]
    return placed(str(value), trigger)


def published_counts(rows: Facts) -> dict[str, int]:
    """Return the counts of a shard that depend on what is published."""
    statuses = [row["status"] for row in rows.values()]
    quarantined = statuses.count("quarantined")
    return {"successes": len(statuses) - quarantined, "quarantined": quarantined}


def _convert_stats(data: bytes, rows: Facts, _: Sequence[str]) -> bytes | None:
    stats = json.loads(data)
    if not isinstance(stats, dict):
        return None
    counts = published_counts(rows)
    quarantined = counts["quarantined"]
    if "successes" in stats:
        stats = {**stats, "source_successes": stats["successes"]}
        stats["successes"] = counts["successes"]
    stats["quarantined"] = quarantined
    by_status = stats.get("status_dict")
    if quarantined and isinstance(by_status, dict) and isinstance(by_status.get("success"), int):
        moved = {"success": by_status["success"] - quarantined, "quarantined": quarantined}
        stats["status_dict"] = by_status | moved
    return json.dumps(stats, indent=4).encode()
