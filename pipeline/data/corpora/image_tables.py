"""Parquet tables of images and captions, as ``datasets`` writes them: to shards, and back.

A table has a column of images, each a struct of ``bytes`` and ``path`` or the bytes alone, and a
column of captions, each a text or a list of texts. All other columns go into the sample's JSON.
"""

import json
import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ...errors import UsageError
from .. import storage
from ..formats import IMAGE_EXTS
from ..images import image_member
from ..local_copy import local_copy
from ..plan import resolve_input
from ..shards import Member, Sample, open_shard
from .source import check_text
from .writing import refuse_existing, staged, write_corpus

log = logging.getLogger(__name__)

_SPLIT = re.compile(r"(train|validation|valid|val|dev|test)[-_.]")
_READ_ROWS = 64
# Rows of a group: what a viewer has to read to show one picture.
_GROUP_ROWS = 100
_SHOWN = 5
_CAPTIONS = "captions"
_MAGIC = {
    b"\xff\xd8\xff": "jpg",
    b"\x89PNG": "png",
    b"GIF8": "gif",
    b"BM": "bmp",
    b"II*\0": "tif",
    b"MM\0*": "tif",
}


@dataclass(frozen=True)
class Columns:
    """Which columns of a table are what.

    Args:
        image: of the images.
        caption: of the captions.
        drop: those that are left out.
    """

    image: str = "image"
    caption: str = "caption"
    drop: tuple[str, ...] = ()


@dataclass
class TableReport:
    """What was written and what was left out.

    Args:
        counts: samples by split.
        rows: rows read.
        left_out: rows without image bytes or without a caption, by table and row.
    """

    counts: dict[str, int] = field(default_factory=dict)
    rows: int = 0
    left_out: list[str] = field(default_factory=list)

    @property
    def lost(self) -> float:
        """Share of the rows that were left out."""
        return len(self.left_out) / max(1, self.rows)


def build_tables(
    src: str, out: str, columns: Columns, samples_per_shard: int = 1000
) -> TableReport:
    """Pack the rows of Parquet tables into ``OUT/<split>-000.tar`` and so on.

    The split is what a table's name begins with (``train-00000-of-00002.parquet``), else ``train``.
    The key of a sample is the number of its row in the split. A sample is ``KEY.<ext>`` with the
    image bytes as they are, ``KEY.txt`` with the first caption, and ``KEY.json`` with the other
    columns, the path of the image, and ``captions`` where they are a list. Rows without image bytes
    or without a caption are left out and logged.

    Args:
        src: URL of a table, of a folder of tables, or a glob.
        out: folder URL, empty or new, outside ``src``.
        columns: which are what.
        samples_per_shard: at least 1.

    Raises:
        UsageError: no table, a missing column, or one that JSON cannot hold.
    """
    if storage.is_inside(out, src):
        raise UsageError(f"{out} is inside {src}; choose an output folder outside it")
    refuse_existing(out)
    tables: dict[str, list[str]] = {}
    for url in find_tables(src):
        match = _SPLIT.match(storage.base_name(url))
        tables.setdefault(match[1] if match else "train", []).append(url)
    report = TableReport()
    samples = {split: _samples(urls, columns, report) for split, urls in tables.items()}
    report.counts = write_corpus(out, samples, samples_per_shard)
    if not sum(report.counts.values()):
        raise UsageError(f"no row of {src} has an image and a caption; check the columns")
    if report.left_out:
        shown = ", ".join(report.left_out[:_SHOWN])
        log.warning("%d rows have no image or no caption: %s", len(report.left_out), shown)
    return report


def find_tables(src: str) -> list[str]:
    """Return the URLs of the Parquet files that ``src`` names, sorted. Raises UsageError: none."""
    if storage.is_folder(src):
        found = [storage.join(src, name) for name in storage.walk(src)]
    elif storage.exists(src):
        found = [src]
    else:
        found = storage.glob(src) if "*" in src or "?" in src else []
    tables = sorted(url for url in found if url.endswith(".parquet"))
    if not tables:
        raise UsageError(f"{src} names no .parquet file; give a table, their folder, or a glob")
    return tables


def _samples(urls: Sequence[str], columns: Columns, report: TableReport) -> Iterator[Sample]:
    number = -1
    for url in urls:
        with local_copy(url) as path, _readable(url), pq.ParquetFile(path) as file:
            names = _check(url, file.schema_arrow, columns)
            row_in_table = 0
            for batch in file.iter_batches(_READ_ROWS, columns=names):
                for row in batch.to_pylist():
                    number += 1
                    row_in_table += 1
                    report.rows += 1
                    place = f"{url} row {row_in_table}"
                    sample = _sample(place, row, columns, number)
                    if sample is None:
                        report.left_out.append(place)
                    else:
                        yield sample


@contextmanager
def _readable(url: str) -> Iterator[None]:
    """Tell which table is damaged; Arrow reports some damages as OSError."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and type(error) is not OSError:
            raise
        raise UsageError(f"{url} is not a readable Parquet file ({error})") from error


def _check(url: str, schema: pa.Schema, columns: Columns) -> list[str]:
    """Return the columns to read. Raises UsageError for those that are missing or unfit."""
    for name, option in ((columns.image, "--image-column"), (columns.caption, "--caption-column")):
        if name not in schema.names:
            listed = ", ".join(schema.names)
            raise UsageError(f"{url} has no column {name!r}; it has {listed}: name one by {option}")
    kind = schema.field(columns.image).type
    if not _is_binary(kind) and not (
        pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0
    ):
        raise UsageError(f"{url}: column {columns.image!r} holds no image bytes ({kind})")
    names = [name for name in schema.names if name not in columns.drop]
    for name in names:
        kind = schema.field(name).type
        if name != columns.image and not _is_json(kind):
            raise UsageError(
                f"{url}: column {name!r} is of type {kind}, which a sample's JSON cannot hold; "
                f"leave it out with --drop {name}"
            )
    several = pa.types.is_list(schema.field(columns.caption).type)
    if several and _CAPTIONS in names and columns.caption != _CAPTIONS:
        raise UsageError(
            f"{url}: {columns.caption!r} and {_CAPTIONS!r} would both be captions; leave "
            f"one out with --drop, or name it by --caption-column"
        )
    return names


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _is_json(kind: pa.DataType) -> bool:
    types = pa.types
    if types.is_list(kind) or types.is_large_list(kind):
        return _is_json(kind.value_type)
    if types.is_struct(kind):
        return all(_is_json(kind.field(index).type) for index in range(kind.num_fields))
    simple = (
        types.is_null, types.is_boolean, types.is_integer, types.is_floating, types.is_string,
        types.is_large_string,
    )  # fmt: skip
    return any(test(kind) for test in simple)


def _sample(place: str, row: dict[str, Any], columns: Columns, number: int) -> Sample | None:
    """Return the sample of a row; None where it has no image or no caption."""
    image, caption = row.pop(columns.image), row.pop(columns.caption)
    data, path = (
        (image.get("bytes"), image.get("path")) if isinstance(image, dict) else (image, None)
    )
    captions = [caption] if isinstance(caption, str) else caption or []
    if not data or not captions or not all(isinstance(c, str) and c.strip() for c in captions):
        return None
    for text in captions:
        check_text(f"{place}: the caption", text)
    facts = {**row, **({columns.image: path} if path else {})}
    if not isinstance(caption, str):
        facts[_CAPTIONS] = captions
    members = {_extension(place, data, path): data, "txt": captions[0].encode()}
    if facts:
        try:
            members["json"] = json.dumps(facts, ensure_ascii=False, allow_nan=False).encode()
        except ValueError as error:
            raise UsageError(
                f"{place}: JSON cannot hold a number that is none (NaN, infinity); leave the "
                f"column out with --drop"
            ) from error
    key = f"{number:08d}"
    parts = tuple(Member(f"{key}.{ext}", ext, part) for ext, part in members.items())
    return Sample(key, parts, number)


def _extension(place: str, data: bytes, path: str | None) -> str:
    """Return the extension of an image: by its content, else by its path."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    for magic, ext in _MAGIC.items():
        if data.startswith(magic):
            return ext
    ext = PurePosixPath(path or "").suffix[1:].lower()
    if ext in IMAGE_EXTS:
        return ext
    raise UsageError(f"{place}: the image is of no known format; mend the row or take it out")


def export_tables(url: str, out: str, like: str, columns: Columns) -> int:
    """Write ``OUT/<shard>.parquet`` for each shard, with the columns and types of other tables.

    Args:
        url: shards that `build_tables` made, or a protected copy of such.
        out: folder URL, empty or new, outside the input.
        like: what `build_tables` read; the first table gives names, types and the features that
            ``datasets`` has noted there. Columns that were left out hold nulls.
        columns: which are what.

    Returns:
        The number of rows.

    Raises:
        UsageError: no table, ``out`` in use, a sample that does not fit the columns.
        ShardError: a shard that cannot be read to its end.
    """
    table = find_tables(like)[0]
    with local_copy(table) as path, _readable(table):
        schema = pq.read_schema(path)
    _check(table, schema, columns)
    shards = resolve_input(url)
    if any(storage.is_inside(out, shard.url.rsplit("/", 1)[0]) for shard in shards):
        raise UsageError(f"{out} is inside the input {url}; choose a folder outside it")
    refuse_existing(out)
    count = 0
    with staged(out) as folder:
        for shard in shards:
            target = folder / f"{shard.name}.parquet"
            with open_shard(shard.url) as reader, pq.ParquetWriter(target, schema) as writer:
                count += _write_rows(writer, schema, reader, columns)
    return count


def _write_rows(
    writer: pq.ParquetWriter, schema: pa.Schema, samples: Iterable[Sample], columns: Columns
) -> int:
    count, rows = 0, []
    for sample in samples:
        rows.append(_row(sample, schema, columns))
        if len(rows) == _GROUP_ROWS:
            writer.write_table(_table(rows, schema))
            count, rows = count + len(rows), []
    if rows:
        writer.write_table(_table(rows, schema))
    return count + len(rows)


def _table(rows: list[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    try:
        return pa.Table.from_pylist(rows, schema=schema)
    except pa.ArrowException as error:
        raise UsageError(
            f"the samples do not fit the columns ({error}); give their own tables"
        ) from error


def _row(sample: Sample, schema: pa.Schema, columns: Columns) -> dict[str, Any]:
    sample.check()
    texts = {member.ext: member.data for member in sample.members}
    facts = json.loads(texts.get("json", b"{}"))
    image = image_member(sample)
    if pa.types.is_struct(schema.field(columns.image).type):
        path = facts.get(columns.image) or image.name
        shown = str(PurePosixPath(str(path)).with_suffix(f".{image.ext}"))
        value: Any = {"bytes": image.data, "path": shown}
    else:
        value = image.data
    several = pa.types.is_list(schema.field(columns.caption).type)
    caption = facts.get(_CAPTIONS) if several else texts["txt"].decode()
    return {**facts, columns.image: value, columns.caption: caption}
