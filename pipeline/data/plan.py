"""The frozen list of input shards and the configuration that an output was made with."""

import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, pairwise
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import UnavailableError, UsageError
from . import storage
from .canonical_json import canonical_json
from .compression import shard_stem
from .expand import expand, is_shard
from .in_groups import map_in_groups
from .shard_list import POOL, SHARD_SCHEMA, ShardInput, ShardList
from .urls import is_text

__all__ = [
    "PLAN_NAME",
    "Plan",
    "ShardInput",
    "ShardList",
    "config_hash",
    "inspect_shards",
    "read_plan",
    "resolve_input",
    "write_plan",
]

PLAN_NAME = "_plan.parquet"
PLAN_VERSION = "1"
_CHUNK = 1 << 12
# Shards that are looked up at a time, and by one thread.
_AHEAD = 1 << 11
_GROUP = 64
# Shards of a folder from which on it is listed instead of asking for each.
_LISTED = 64


@dataclass(frozen=True)
class Plan:
    """What a run does: its shards in order, its configuration and the version that runs it.

    ``request`` holds the settings that the run was asked for and that ``config`` does not have,
    because the bytes do not depend on them: a retry needs them again.
    """

    shards: Sequence[ShardInput]
    config: dict[str, Any]
    config_hash: str
    version: str
    request: dict[str, Any] = field(default_factory=dict)


def config_hash(config: Mapping[str, Any]) -> str:
    """Return the sha256 of a JSON-serialisable configuration, independent of key order."""
    return hashlib.sha256(canonical_json(config).encode()).hexdigest()


def resolve_input(url: str) -> ShardList:
    """Return the shards that an input URL names, sorted by URL.

    Raises:
        UsageError: nothing found, an unreadable folder, two shards of one name, a name that is no
            text, credentials in it.
    """
    storage.refuse_secrets(url)
    urls = expand(url)
    _refuse_odd_names(urls)
    shards = inspect_shards(urls)
    _refuse_equal_names(shards)
    if all(shard.size is None and shard.etag is None for shard in shards) and not any(
        map(storage.exists, urls)
    ):
        raise UsageError(f"none of the {len(urls)} shards that {url} names exists, e.g. {urls[0]}")
    return shards


def inspect_shards(urls: Sequence[str]) -> ShardList:
    """Return the shards at ``urls`` as they are now; a missing one has neither size nor mark.

    Raises:
        UnavailableError: the store does not answer.
    """
    listed = _listed(urls)
    found = map_in_groups(lambda url: _inspect(url, listed), urls, group=_GROUP, ahead=_AHEAD)
    return ShardList.of(found)


def _listed(urls: Sequence[str]) -> dict[str, dict[str, dict[str, Any]]]:
    """List the folders of object stores that many shards lie in: one request for a thousand."""
    if not urls or storage.local_path(urls[0]) is not None or storage.is_http(urls[0]):
        return {}
    folders = Counter(url.rsplit("/", 1)[0] for url in urls)
    many = [folder for folder, count in folders.items() if count >= _LISTED]
    return {folder: storage.list_identities(folder) for folder in many}


def _refuse_odd_names(urls: Sequence[str]) -> None:
    for url in urls:
        if not is_text(url):
            raise UsageError(
                f"{url!r} is not UTF-8, which plans and manifests are; rename the file"
            )


def _refuse_equal_names(shards: Sequence[ShardInput]) -> None:
    if _is_one_folder(shards) or len({shard.name for shard in shards}) == len(shards):
        return
    first: dict[str, str] = {}
    for shard in shards:
        if shard.name in first:
            raise UsageError(
                f"two shards are named {shard.name}: {first[shard.name]} and {shard.url}; "
                "rename one, or run the folders separately"
            )
        first[shard.name] = shard.url


def _is_one_folder(shards: Sequence[ShardInput]) -> bool:
    """Whether these are different files of one folder: then no set of a million names is needed."""
    folder, end = shards[0].url.rpartition("/")[0], ".tar"
    return not storage.is_http(folder) and all(
        other.url.rpartition("/")[0] == folder and one.url < other.url and other.url.endswith(end)
        for one, other in pairwise(chain([ShardInput("", f"{folder}/")], shards))
    )


def write_plan(record: str, plan: Plan) -> None:
    """Write ``_plan.parquet`` under the URL of a record."""
    metadata = {
        "plan_version": PLAN_VERSION,
        "config": canonical_json(plan.config),
        "config_hash": plan.config_hash,
        "version": plan.version,
        "request": canonical_json(plan.request),
    }
    shards = plan.shards if isinstance(plan.shards, ShardList) else ShardList.of(plan.shards)
    table = shards.table.replace_schema_metadata(metadata)
    buffer = io.BytesIO()
    # Names and URLs do not repeat: a dictionary of them would take memory and save nothing.
    with pq.ParquetWriter(
        buffer, table.schema, compression="zstd", use_dictionary=False, memory_pool=POOL
    ) as writer:
        for start in range(0, len(shards), _CHUNK):
            writer.write_table(table.slice(start, _CHUNK))
    storage.write_bytes(storage.join(record, PLAN_NAME), buffer.getvalue())


def read_plan(record: str) -> Plan | None:
    """Return the plan under the URL of a record, or None when there is none.

    Raises:
        UsageError: the file is damaged or of another version.
    """
    url = storage.join(record, PLAN_NAME)
    try:
        data = storage.read_bytes(url)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        file = pq.ParquetFile(io.BytesIO(data))
        if not file.schema_arrow.equals(SHARD_SCHEMA):
            raise ValueError("its columns are not those of a plan")
        metadata = {
            key.decode(): value.decode()
            for key, value in (file.schema_arrow.metadata or {}).items()
        }
        found = metadata["plan_version"]
        if found != PLAN_VERSION:
            raise UsageError(
                f"{url} has plan version {found}, this program reads {PLAN_VERSION}; "
                "use the release that wrote it"
            )
        return Plan(
            shards=ShardList.of(_shards_of(file)),
            config=_json_object(metadata["config"]),
            config_hash=metadata["config_hash"],
            version=metadata["version"],
            request=_json_object(metadata.get("request", "{}")),
        )
    # Arrow reports some damages as OSError.
    except (pa.ArrowException, KeyError, OSError, RecursionError, ValueError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(
            f"{url} is not a readable plan ({error}); write to a new output folder"
        ) from error


def _shards_of(file: pq.ParquetFile) -> Iterator[ShardInput]:
    for batch in file.iter_batches(_CHUNK):
        columns = [batch.column(name).to_pylist() for name in SHARD_SCHEMA.names]
        for shard in map(ShardInput, *columns):
            # Files are written under the name: whoever changed the plan must not choose where.
            if "/" in shard.name or "\0" in shard.name or not _is_usable(shard.name):
                raise ValueError(f"it has a shard named {shard.name[:80]!r}")
            yield shard


def _json_object(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError("its configuration is no JSON object")
    return value


def _inspect(url: str, listed: Mapping[str, Mapping[str, dict[str, Any]]]) -> ShardInput:
    missing = {"size": None, "etag": None}
    folder, name = url.rsplit("/", 1)
    try:
        found = listed.get(folder, {}).get(name) or storage.identity(url)
    except UnavailableError:
        raise
    except OSError:
        found = missing
    return ShardInput(_shard_name(url), url, found["size"], found["etag"])


def _shard_name(url: str) -> str:
    base = storage.base_name(url)
    name = shard_stem(base) or ("" if is_shard(base) else base)
    if not _is_usable(name):
        raise UsageError(
            f"{url} cannot be a shard: its name is empty, hidden or ends in .failed; rename it"
        )
    return name


def _is_usable(name: str) -> bool:
    return bool(name) and not name.startswith(".") and not name.endswith(".failed")
