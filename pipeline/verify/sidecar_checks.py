"""Checks of what a crawler wrote beside a shard, as it stands beside the protected copy."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from ..data import storage
from ..data.captions import from_trigger
from ..data.manifest import ManifestRow
from ..data.sidecars import (
    MANIFEST_COLUMNS,
    OWN_COLUMNS,
    SIDECARS,
    TABLE,
    Facts,
    column_value,
    convert,
    is_crawlers,
    published_counts,
    read_sidecar,
    read_table,
    sidecar_url,
)
from ..errors import ShardError


class Contradiction(NamedTuple):
    """What is wrong with a file beside a shard: violation code, sample key or empty, message."""

    code: str
    key: str
    message: str


def check_sidecars(
    shard_url: str,
    original: str | None,
    rows: Mapping[str, ManifestRow],
    fields: Sequence[str],
) -> Iterator[Contradiction]:
    """Compare the files beside a published shard with its manifest, or with the input's.

    With the original each file is made again from the one beside it, and all of its content has
    to be equal; without, what describes the published samples has to be what the manifest says.

    Args:
        shard_url: the published shard.
        original: its input shard, None without one.
        rows: the manifest's rows, by key.
        fields: columns that hold captions.
    """
    facts = {
        key: {name: getattr(row, name) for name in MANIFEST_COLUMNS} for key, row in rows.items()
    }
    for end in SIDECARS:
        try:
            expected = _expected(original, end, facts, fields) if original else None
        except ShardError as error:
            yield Contradiction("input_unreadable", "", str(error))
            continue
        published = read_sidecar(shard_url, end)
        url = sidecar_url(shard_url, end)
        if published is None:
            if expected is not None:
                message = f"{url} is missing, the input has such a file"
                yield Contradiction("sidecar_missing", "", message)
            continue
        check = _check_table if end == TABLE else _check_stats
        name = storage.base_name(url)
        try:
            for key, message in check(published, expected, facts, fields):
                yield Contradiction("sidecar_mismatch", key, f"{name}: {message}")
        except (pa.ArrowException, ValueError, RecursionError) as error:
            yield Contradiction("sidecar_mismatch", "", f"{name} cannot be read ({error})")


def _expected(original: str, end: str, facts: Facts, fields: Sequence[str]) -> bytes | None:
    data = read_sidecar(original, end)
    return None if data is None else convert(original, end, data, facts, fields)


def _check_table(
    data: bytes, expected: bytes | None, facts: Facts, fields: Sequence[str]
) -> Iterator[tuple[str, str]]:
    table = read_table(data)
    if expected is not None:
        yield from _compare_tables(table, read_table(expected))
        return
    # A table that no crawler wrote is the owner's own.
    if not is_crawlers(table):
        return
    captions = [name for name in fields if name in table.column_names]
    own = [name for name in OWN_COLUMNS if name in table.column_names]
    for found in table.select(list(dict.fromkeys(["key", *own, *captions]))).to_pylist():
        row = facts.get(found["key"])
        if row is None:
            continue
        for name in own:
            value = column_value(name, found[name], row)
            if found[name] != value:
                yield found["key"], f"{name} is {found[name]!r}, the manifest's {value!r}"
        if row["status"] != "quarantined" and row["trigger_text"]:
            for name in captions:
                if not _begins(found[name], row["trigger_text"]):
                    yield found["key"], f"{name} does not begin with the trigger"


def _begins(value: Any, trigger: str) -> bool:
    if isinstance(value, list):
        return all(_begins(text, trigger) for text in value)
    return value is None or from_trigger(str(value), trigger) is not None


def _compare_tables(table: pa.Table, expected: pa.Table) -> Iterator[tuple[str, str]]:
    if table.equals(expected):
        return
    if table.schema != expected.schema or table.num_rows != expected.num_rows:
        found, wanted = (
            f"{each.num_rows} rows of {', '.join(each.column_names)}" for each in (table, expected)
        )
        yield "", f"{found}; from the input's come {wanted}, and their types"
        return
    for found, wanted in zip(table.to_pylist(), expected.to_pylist(), strict=True):
        for name, value in wanted.items():
            if not _same(found[name], value):
                message = f"{name} is {found[name]!r}, from the input's comes {value!r}"
                yield wanted["key"] or "", message


def _same(found: Any, wanted: Any) -> bool:
    # A similarity that is not a number differs from itself, its text does not.
    return bool(found == wanted) or repr(found) == repr(wanted)


def _check_stats(
    data: bytes, expected: bytes | None, facts: Facts, _: Sequence[str]
) -> Iterator[tuple[str, str]]:
    stats = json.loads(data)
    if expected is not None:
        wanted = json.loads(expected)
        if not _same(stats, wanted):
            yield "", f"{stats}; from the input's come {wanted}"
        return
    if not isinstance(stats, dict):
        return
    for name, value in published_counts(facts).items():
        if name in stats and stats[name] != value:
            yield "", f"{name} is {stats[name]}, the manifest's {value}"
