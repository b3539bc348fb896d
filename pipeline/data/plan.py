"""The frozen list of input shards and the configuration that an output was made with."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import UsageError
from . import storage
from .expand import expand

PLAN_NAME = "_plan.parquet"
PLAN_VERSION = "1"
_SCHEMA = pa.schema(
    [
        pa.field("name", pa.string(), nullable=False),
        pa.field("url", pa.string(), nullable=False),
        pa.field("size", pa.int64()),
        pa.field("etag", pa.string()),
    ]
)


@dataclass(frozen=True)
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


@dataclass(frozen=True)
class Plan:
    """What a run does: its shards in order, its configuration and the version that runs it.

    ``request`` holds the settings that the run was asked for and that ``config`` does not have,
    because the bytes do not depend on them: a retry needs them again.
    """

    shards: tuple[ShardInput, ...]
    config: dict[str, Any]
    config_hash: str
    version: str
    request: dict[str, Any] = field(default_factory=dict)


def config_hash(config: Mapping[str, Any]) -> str:
    """Return the sha256 of a JSON-serialisable configuration, independent of key order."""
    return hashlib.sha256(_canonical_json(config).encode()).hexdigest()


def resolve_input(url: str) -> list[ShardInput]:
    """Return the shards that an input URL names, sorted by URL.

    Raises:
        UsageError: nothing found, an unreadable folder, two shards of one name, credentials in it.
    """
    storage.refuse_secrets(url)
    urls = expand(url)
    first: dict[str, str] = {}
    for shard_url in urls:
        name = _shard_name(shard_url)
        if name in first:
            raise UsageError(
                f"two shards are named {name}: {first[name]} and {shard_url}; "
                "rename one, or run the folders separately"
            )
        first[name] = shard_url
    shards = inspect_shards(urls)
    if all(shard.size is None and shard.etag is None for shard in shards) and not any(
        map(storage.exists, urls)
    ):
        raise UsageError(f"none of the {len(urls)} shards that {url} names exists, e.g. {urls[0]}")
    return shards


def inspect_shards(urls: Sequence[str]) -> list[ShardInput]:
    """Return the shards at ``urls`` as they are now; a missing one has neither size nor mark."""
    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(_inspect, urls))


def write_plan(output: str, plan: Plan) -> None:
    """Write ``_plan.parquet`` under the output prefix."""
    metadata = {
        "plan_version": PLAN_VERSION,
        "config": _canonical_json(plan.config),
        "config_hash": plan.config_hash,
        "version": plan.version,
        "request": _canonical_json(plan.request),
    }
    rows = [{"name": s.name, "url": s.url, "size": s.size, "etag": s.etag} for s in plan.shards]
    table = pa.Table.from_pylist(rows, schema=_SCHEMA.with_metadata(metadata))
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    storage.write_bytes(storage.join(output, PLAN_NAME), buffer.getvalue())


def read_plan(output: str) -> Plan | None:
    """Return the plan of an output prefix, or None when it has none.

    Raises:
        UsageError: the file is damaged or of another version.
    """
    url = storage.join(output, PLAN_NAME)
    try:
        data = storage.read_bytes(url)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        table = pq.read_table(io.BytesIO(data), partitioning=None)
        metadata = {
            key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()
        }
        found = metadata["plan_version"]
        if found != PLAN_VERSION:
            raise UsageError(
                f"{url} has plan version {found}, this program reads {PLAN_VERSION}; "
                "use the release that wrote it"
            )
        return Plan(
            shards=tuple(ShardInput(**row) for row in table.to_pylist()),
            config=json.loads(metadata["config"]),
            config_hash=metadata["config_hash"],
            version=metadata["version"],
            request=json.loads(metadata.get("request", "{}")),
        )
    except (pa.ArrowException, KeyError, TypeError, ValueError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(
            f"{url} is not a readable plan ({error}); write to a new output folder"
        ) from error


def _inspect(url: str) -> ShardInput:
    try:
        found = storage.identity(url)
    except OSError:
        found = {"size": None, "etag": None}
    return ShardInput(_shard_name(url), url, found["size"], found["etag"])


def _shard_name(url: str) -> str:
    name = storage.base_name(url).removesuffix(".tar")
    if not name or name.startswith(".") or name.endswith(".failed"):
        raise UsageError(
            f"{url} cannot be a shard: its name is empty, hidden or ends in .failed; rename it"
        )
    return name


def _canonical_json(config: Mapping[str, Any]) -> str:
    return json.dumps(config, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
