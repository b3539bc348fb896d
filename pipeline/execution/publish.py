"""`publish`: the mark that tells those who come next that a verified copy may be taken."""

import hashlib
import json
from dataclasses import dataclass

from ..data import storage
from ..data.ledger import (
    INDEX_NAME,
    PUBLISHED_NAME,
    SUCCESS_NAME,
    build_index,
    read_ledger,
    uncommitted,
)
from ..data.manifest import MANIFEST_DIR
from ..data.plan import Plan, read_plan
from ..errors import ShardError, UsageError, ViolationError
from .config import PublishConfig


@dataclass(frozen=True)
class Publication:
    """What a copy was published as.

    Attributes:
        output: URL of the copy.
        index_sha256: sha256 of its ``index.json``, which has the sha256 of every shard.
        shards: its shards.
        samples: samples in them.
        new: whether the mark was written now.
    """

    output: str
    index_sha256: str
    shards: int
    samples: int
    new: bool

    def __str__(self) -> str:
        done = "published" if self.new else "was published before"
        return (
            f"{self.output}: {done}, {self.shards} shards, {self.samples} samples, "
            f"index {self.index_sha256[:12]}"
        )


def publish(config: PublishConfig) -> Publication:
    """Write ``_PUBLISHED`` once everything that the ledger commits is in its place.

    What the files hold is `verify`'s to check; here only their names are looked at, so that it
    takes seconds at any size. The mark depends on the copy alone: the same copy, the same bytes. A
    run that finds the copy incomplete takes the mark away.

    Raises:
        UsageError: no run there.
        ShardError: the copy is not complete.
        ViolationError: a file is missing, or the index is not the ledger's.
    """
    output = config.output
    plan = read_plan(output)
    if plan is None:
        raise UsageError(
            f"{output} holds no run: it has no plan; give the folder that protect writes to"
        )
    index = _checked_index(output, plan)
    digest = hashlib.sha256(index).hexdigest()
    shards = json.loads(index)["shardlist"]
    samples = sum(shard["nsamples"] for shard in shards)
    mark = {
        "config_hash": plan.config_hash,
        "index_sha256": digest,
        "samples": samples,
        "shards": len(shards),
        "version": plan.version,
    }
    new = _write_if_new(storage.join(output, PUBLISHED_NAME), json.dumps(mark, indent=1).encode())
    return Publication(output, digest, len(shards), samples, new)


def _checked_index(output: str, plan: Plan) -> bytes:
    """Return ``index.json`` of a copy in which nothing is missing."""
    ledger = read_ledger(output)
    missing = uncommitted(plan, ledger)
    if missing or not storage.exists(storage.join(output, SUCCESS_NAME)):
        raise ShardError(
            f"{output} is not complete: {len(missing)} of {len(plan.shards)} shards are missing"
            f"{', e.g. ' + missing[0] if missing else ''}; run protect again, then verify"
        )
    for folder, end in (("", ".tar"), (MANIFEST_DIR, ".parquet")):
        there = set(storage.list_names(storage.join(output, folder) if folder else output))
        gone = [shard.name + end for shard in plan.shards if shard.name + end not in there]
        if gone:
            raise ViolationError(
                f"{output}: {len(gone)} committed files are gone, e.g. "
                f"{storage.join(folder, gone[0]) if folder else gone[0]}; copy them back, or "
                f"delete their records in _ledger/ and run protect again"
            )
    try:
        index = storage.read_bytes(storage.join(output, INDEX_NAME))
        same = json.loads(index) == build_index(plan, ledger)
    except (FileNotFoundError, ValueError):
        index, same = b"", False
    if not same:
        raise ViolationError(
            f"{storage.join(output, INDEX_NAME)} is not what the ledger says; run protect again"
        )
    return index


def _write_if_new(url: str, data: bytes) -> bool:
    try:
        if storage.read_bytes(url) == data:
            return False
    except FileNotFoundError:
        pass
    storage.write_bytes(url, data)
    return True
