"""Ledger: the record that commits a shard, and the end of a run."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Any, Literal

from ..errors import ShardError, UsageError
from . import storage
from .disk_map import DiskMap
from .in_groups import map_in_groups
from .json_pieces import json_pieces
from .plan import Plan
from .typed_json import parse

LEDGER_DIR = "_ledger"
INDEX_NAME = "index.json"
SUCCESS_NAME = "_SUCCESS"
PUBLISHED_NAME = "_PUBLISHED"
_FAILED = ".failed.json"
# Fields of earlier releases.
_DROPPED = frozenset({"passed"})
# Records that are read at a time, and by one thread.
_AHEAD = 1 << 10
_GROUP = 16


@dataclass(frozen=True, slots=True)
class LedgerRecord:
    """Outcome of one shard.

    ``input`` holds url, size and sha256; ``timings`` seconds by stage; ``queues`` how many samples
    stood in each queue on average; ``passes`` forward and backward passes a sample by kind;
    ``reasons`` counts quarantined samples by reason, ``notes`` what is noted in the manifest;
    ``retries`` the storage operations that were repeated for it; ``repeats`` the texts beside
    captions that repeat one and have its trigger; ``loss`` is the mean after
    protection, where the method has one; a failed shard has the ``error`` with its ``traceback``
    where it was raised here, and the ``node``, host and process, of its last attempt.
    """

    shard: str
    status: Literal["committed", "failed"]
    config_hash: str
    samples: int = 0
    protected: int = 0
    quarantined: int = 0
    shard_sha256: str = ""
    shard_size: int = 0
    manifest_sha256: str = ""
    manifest_size: int = 0
    input: dict[str, Any] = field(default_factory=dict)
    attempts: int = 1
    retries: int = 0
    repeats: int = 0
    timings: dict[str, float] = field(default_factory=dict)
    queues: dict[str, float] = field(default_factory=dict)
    passes: dict[str, float] = field(default_factory=dict)
    loss: float | None = None
    reasons: dict[str, int] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)
    error: str | None = None
    traceback: str | None = None
    node: str = ""


_NAMES = [item.name for item in fields(LedgerRecord)]
_values = attrgetter(*_NAMES)


class Records(DiskMap[LedgerRecord]):
    """Records by name of the shard, on the local disk: memory does not grow with their number.

    Attributes:
        failed: names of the shards that failed.
    """

    def __init__(self) -> None:
        super().__init__(
            lambda record: json.dumps(_values(record)), lambda text: LedgerRecord(*json.loads(text))
        )
        self.failed: set[str] = set()

    def __setitem__(self, name: str, record: LedgerRecord) -> None:
        super().__setitem__(name, record)
        (self.failed.add if record.status == "failed" else self.failed.discard)(name)

    def __delitem__(self, name: str) -> None:
        super().__delitem__(name)
        self.failed.discard(name)


def record_url(kept: str, shard: str, *, failed: bool = False) -> str:
    """Return where the record of ``shard`` lies under ``kept``, the URL of an output's record."""
    return storage.join(kept, LEDGER_DIR, shard + (_FAILED if failed else ".json"))


def write_record(kept: str, record: LedgerRecord) -> None:
    """Write a record; a committed one replaces the failed one of earlier attempts."""
    failed = record.status == "failed"
    # A line a field: json indents ten times as slowly, and a driver writes many records a second.
    known = zip(_NAMES, _values(record), strict=True)
    lines = ",\n ".join(f'"{name}": {json.dumps(value)}' for name, value in known)
    url = record_url(kept, record.shard, failed=failed)
    storage.write_bytes(url, f"{{\n {lines}\n}}".encode())
    if not failed:
        storage.remove(record_url(kept, record.shard, failed=True))


def read_record(kept: str, shard: str) -> LedgerRecord | None:
    """Return the record of ``shard``: the committed one, else the failed one, else None.

    Raises:
        UsageError: the record is damaged.
    """
    for failed in (False, True):
        url = record_url(kept, shard, failed=failed)
        try:
            return _parse(url, storage.read_bytes(url))
        except (FileNotFoundError, NotADirectoryError):
            continue
    return None


def read_ledger(kept: str, shards: Iterable[str] | None = None) -> Records:
    """Return the record of each of ``shards``, or of all, by name; committed hides failed."""
    folder = storage.join(kept, LEDGER_DIR)
    names = [name for name in storage.list_names(folder) if name.endswith(".json")]
    wanted = set(shards) if shards is not None and names else None
    if wanted is not None:
        names = [n for n in names if n.removesuffix(".json").removesuffix(".failed") in wanted]
    ledger = Records()
    for failed in (True, False):
        urls = [storage.join(folder, n) for n in names if n.endswith(_FAILED) is failed]
        for record in map_in_groups(_read, urls, group=_GROUP, ahead=_AHEAD):
            if record is not None and (wanted is None or record.shard in wanted):
                ledger[record.shard] = record
    return ledger


def is_covered(kept: str, plan: Plan) -> bool:
    """Tell by names alone whether each planned shard may be committed: one listing, no read."""
    names = set(storage.list_names(storage.join(kept, LEDGER_DIR)))
    return all(f"{shard.name}.json" in names for shard in plan.shards)


def uncommitted(plan: Plan, ledger: Mapping[str, LedgerRecord]) -> list[str]:
    """Return the names of the planned shards that no record of this configuration commits."""
    return [s.name for s in plan.shards if not _commits(ledger.get(s.name), plan)]


def committed(plan: Plan, ledger: Mapping[str, LedgerRecord]) -> Iterator[LedgerRecord]:
    """Yield the records that commit shards of ``plan``, in its order."""
    for shard in plan.shards:
        record = ledger.get(shard.name)
        if record is not None and _commits(record, plan):
            yield record


def _commits(record: LedgerRecord | None, plan: Plan) -> bool:
    return (
        record is not None
        and record.status == "committed"
        and record.config_hash == plan.config_hash
    )


def write_success(output: str, plan: Plan, ledger: Mapping[str, LedgerRecord]) -> None:
    """Write ``index.json`` and then ``_SUCCESS``, which holds the sha256 of the index.

    Args:
        output: output prefix.
        plan: its plan.
        ledger: its records as read or written before.

    Raises:
        ShardError: the ledger does not cover the plan.
    """
    missing = uncommitted(plan, ledger)
    if missing:
        raise ShardError(
            f"{output} is not complete: {len(missing)} of {len(plan.shards)} shards are missing, "
            f"e.g. {missing[0]}; run the same command again"
        )
    entries = (index_entry(record) for record in committed(plan, ledger))
    digest = hashlib.sha256()

    def hashed() -> Iterator[bytes]:
        for piece in json_pieces(_index_head(plan, ledger), "shardlist", entries):
            digest.update(piece)
            yield piece

    storage.write_pieces(storage.join(output, INDEX_NAME), hashed())
    storage.write_bytes(storage.join(output, SUCCESS_NAME), f"{digest.hexdigest()}\n".encode())


def build_index(plan: Plan, ledger: Mapping[str, LedgerRecord]) -> dict[str, Any]:
    """Return the index of a complete output, in the format of WebDataset's ``wids``."""
    entries = [index_entry(record) for record in committed(plan, ledger)]
    return {**_index_head(plan, ledger), "shardlist": entries}


def _index_head(plan: Plan, ledger: Mapping[str, LedgerRecord]) -> dict[str, Any]:
    samples = quarantined = 0
    for record in committed(plan, ledger):
        samples += record.samples
        quarantined += record.quarantined
    return {
        "__kind__": "wids-shard-index-v1",
        "wids_version": 1,
        "shardlist": [],
        "samples": samples,
        "quarantined": quarantined,
        "caption_fields": plan.config.get("caption_fields"),
        **({"images": "all"} if plan.config.get("images") == "all" else {}),
        "version": plan.version,
    }


def index_entry(record: LedgerRecord) -> dict[str, Any]:
    """Return what the index says of one committed shard."""
    return {
        "url": f"{record.shard}.tar",
        "nsamples": record.samples - record.quarantined,
        "filesize": record.shard_size,
        "sha256": record.shard_sha256,
        "quarantined": record.quarantined,
    }


def _read(url: str) -> LedgerRecord | None:
    try:
        return _parse(url, storage.read_bytes(url))
    except FileNotFoundError:
        return None  # replaced by another process since the listing


def _parse(url: str, data: bytes) -> LedgerRecord:
    try:
        return parse(LedgerRecord, data, dropped=_DROPPED)
    except ValueError as error:
        raise UsageError(
            f"{url} is not a ledger record ({error}); delete it and run the same command again"
        ) from error
