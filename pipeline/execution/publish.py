"""`publish`: a verified copy is marked as one that may be taken, and uploaded to where it is."""

import hashlib
import json
from dataclasses import dataclass
from itertools import islice

from ..data import storage
from ..data.ledger import (
    INDEX_NAME,
    LEDGER_DIR,
    PUBLISHED_NAME,
    SUCCESS_NAME,
    Records,
    build_index,
    read_ledger,
    uncommitted,
)
from ..data.manifest import MANIFEST_DIR
from ..data.plan import Plan, read_plan
from ..data.record import SUFFIX, find_record, no_run
from ..errors import ShardError, ViolationError
from .config import PublishConfig
from .leaks import find_leaks
from .upload import Upload, upload

# Files that are named when a copy must not be published.
_SHOWN = 3


@dataclass(frozen=True)
class Publication:
    """What a copy was published as.

    Attributes:
        output: URL of the copy.
        index_sha256: sha256 of its ``index.json``, which has the sha256 of every shard.
        shards: its shards.
        samples: samples in them.
        new: whether the mark was written now.
        upload: what was copied to the destination; None without one.
    """

    output: str
    index_sha256: str
    shards: int
    samples: int
    new: bool
    upload: Upload | None = None

    def __str__(self) -> str:
        done = "published" if self.new else "was published before"
        marked = (
            f"{self.output}: {done}, {self.shards} shards, {self.samples} samples, "
            f"index {self.index_sha256[:12]}"
        )
        return marked if self.upload is None else f"{marked}\n{self.upload}"


def publish(config: PublishConfig) -> Publication:
    """Write ``_PUBLISHED`` once everything that the ledger commits is in its place, and upload.

    What the shards hold is `verify`'s to check; here only their names and sizes are looked at, so
    that it takes seconds at any size. All other files are read: an output in which anything of a
    record or a surrogate is found is refused. The mark depends on the copy alone: the same copy,
    the same bytes. A run that finds the copy incomplete takes the mark away.

    Raises:
        UsageError: no run there.
        ShardError: the copy is not complete.
        ViolationError: a file is missing or cut off, the index is not the ledger's, or the record
            would be published; or what arrived at the destination is not what was sent.
    """
    output = config.output
    record = find_record(output, config.record)
    plan = read_plan(record)
    if plan is None:
        raise no_run(output, record)
    ledger = read_ledger(record)
    _check_complete(output, record, plan, ledger)
    index_url = storage.join(output, INDEX_NAME)
    index = storage.read_bytes(index_url) if storage.exists(index_url) else b""
    digest = hashlib.sha256(index).hexdigest()
    mark_of = (
        storage.read_bytes(storage.join(output, SUCCESS_NAME)).decode(errors="replace").strip()
    )
    _refuse_leaks(output, plan, mark_of)
    if not _is_index(index, plan, ledger) or mark_of != digest:
        raise ViolationError(f"{index_url} is not what the ledger says; run protect again")
    shards = json.loads(index)["shardlist"]
    samples = sum(shard["nsamples"] for shard in shards)
    mark = {
        "index_sha256": digest,
        "samples": samples,
        "shards": len(shards),
        "version": plan.version,
    }
    new = _write_if_new(storage.join(output, PUBLISHED_NAME), json.dumps(mark, indent=1).encode())
    copied = None
    if config.destination is not None:
        copied = upload(output, record, config.destination, private=config.private)
    return Publication(output, digest, len(shards), samples, new, copied)


def _refuse_leaks(output: str, plan: Plan, mark: str) -> None:
    hashes = {plan.config_hash, str(plan.config.get("surrogate_sha256") or plan.config_hash)}
    names = {f"{shard.name}.tar" for shard in plan.shards}
    leaks = list(islice(find_leaks(output, names, hashes, {mark}), _SHOWN))
    if leaks:
        raise ViolationError(
            f"{output} must not be published: {'; '.join(leaks)}. Move manifest/, _ledger/, _log/, "
            f"_lease/ and _plan.parquet to the record ({output.rstrip('/')}{SUFFIX}), take other "
            f"such files out, and run protect again, which writes the card anew"
        )


def _check_complete(output: str, record: str, plan: Plan, ledger: Records) -> None:
    """Refuse a copy in which something is missing. Raises ShardError or ViolationError."""
    missing = uncommitted(plan, ledger)
    if not missing and not any(record.protected for record in ledger.values()):
        raise ShardError(
            f"{output} holds no protected sample; `unlearnable status {output}` tells why, and "
            f"there is nothing to publish"
        )
    if missing or not storage.exists(storage.join(output, SUCCESS_NAME)):
        raise ShardError(
            f"{output} is not complete: {len(missing)} of {len(plan.shards)} shards are missing"
            f"{', e.g. ' + missing[0] if missing else ''}; run protect again, then verify"
        )
    sizes = storage.list_sizes(output)
    rows = storage.list_names(storage.join(record, MANIFEST_DIR))
    for there, folder, end in ((set(sizes), "", ".tar"), (set(rows), MANIFEST_DIR, ".parquet")):
        gone = [shard.name + end for shard in plan.shards if shard.name + end not in there]
        if gone:
            raise ViolationError(
                f"{output}: {len(gone)} committed files are gone, e.g. "
                f"{storage.join(folder, gone[0]) if folder else gone[0]}; copy them back, or "
                f"delete their records in {storage.join(record, LEDGER_DIR)} and run protect again"
            )
    for shard in plan.shards:
        name, told = f"{shard.name}.tar", ledger[shard.name].shard_size
        if sizes.get(name) not in (None, told):
            raise ViolationError(
                f"{storage.join(output, name)} has {sizes[name]} bytes, not the {told} that were "
                f"written; copy it back, or delete its record in "
                f"{storage.join(record, LEDGER_DIR)} and run protect again"
            )


def _is_index(data: bytes, plan: Plan, ledger: Records) -> bool:
    try:
        return bool(json.loads(data) == build_index(plan, ledger))
    except ValueError:
        return False


def _write_if_new(url: str, data: bytes) -> bool:
    try:
        if storage.read_bytes(url) == data:
            return False
    except FileNotFoundError:
        pass
    storage.write_bytes(url, data)
    return True
