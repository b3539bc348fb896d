"""Beginning a run or going on with one: the frozen plan, and what the ledger says is done."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ...data import storage
from ...data.canonical_json import canonical_json
from ...data.ledger import (
    LEDGER_DIR,
    PUBLISHED_NAME,
    SUCCESS_NAME,
    LedgerRecord,
    Records,
    read_ledger,
    uncommitted,
)
from ...data.manifest import MANIFEST_DIR
from ...data.plan import Plan, ShardInput, config_hash, read_plan, write_plan
from ...errors import UsageError
from ..spec import package_version
from .lease import remove_expired


def check_places(
    shards: Sequence[ShardInput], output: str, what: str = "output", source: str = ""
) -> None:
    """Refuse an ``output`` in or below a folder that the shards are read from.

    Beside a single shard that ``source``, the URL of the input, names, there may be one.

    Raises:
        UsageError: it is there, or on a web server, which only gives.
    """
    storage.refuse_secrets(output)
    if storage.is_http(output):
        raise UsageError(f"the {what} {output} is on a web server, which can only be read from")
    one = len(shards) == 1 and storage.base_name(source) == storage.base_name(shards[0].url)
    for folder in sorted({shard.url.rsplit("/", 1)[0] or "/" for shard in shards}):
        if one and not storage.is_inside(folder, output):
            continue
        if storage.is_inside(output, folder):
            raise UsageError(
                f"the {what} {output} is inside the input {folder}, where the next run would read "
                f"it as input; choose a folder outside"
            )


def find_plan(
    config: dict[str, Any],
    shards: Sequence[ShardInput],
    output: str,
    record: str,
    request: dict[str, Any] | None = None,
) -> tuple[Plan, bool]:
    """Return the plan of ``output`` and whether it is still to be written: new, or asked anew.

    Args:
        config: everything but the input that determines the bytes of the output.
        shards: the input.
        output: URL of the output directory.
        record: URL of its record.
        request: what a plan remembers beside the configuration; the latest counts.

    Raises:
        UsageError: the output belongs to another configuration or input, or to something else.
    """
    plan = read_plan(record)
    if plan is None:
        if any(name.endswith(".tar") for name in storage.list_names(output)):
            raise UsageError(
                f"{output} holds shards but there is no plan of a run in {record}; give --record "
                f"as when it was begun, or choose an empty folder"
            )
        version = package_version()
        return Plan(shards, config, config_hash(config), version, request or {}), True
    if plan.config_hash != config_hash(config):
        raise UsageError(
            f"{output} belongs to another configuration ({_difference(plan.config, config)}); "
            f"use the same settings to go on, or another output folder"
        )
    _check_same_input(plan, shards, output)
    if request is not None and request != plan.request:
        return replace(plan, request=request), True
    return plan, False


def begin(
    plan: Plan,
    shards: Sequence[ShardInput],
    output: str,
    record: str,
    *,
    new: bool,
    alone: bool = True,
    part: Plan | None = None,
) -> Records:
    """Write the plan, clear away what dead runs left, and return the committed records by shard.

    Args:
        plan: the plan of the output.
        shards: the input as it is now.
        output: URL of the output directory.
        record: URL of its record.
        new: whether it is still to be written.
        alone: whether no other run writes there; what seems left over may be its work otherwise.
        part: the shards of the plan that this run is about; all when None.

    Raises:
        UsageError: an input shard has changed since it was protected.
    """
    if new:
        write_plan(record, plan)
    if alone:
        remove_expired(record)
        storage.sweep(output)
        for folder in ("", MANIFEST_DIR, LEDGER_DIR):
            storage.sweep(storage.join(record, folder))
    part = part or plan
    done = committed_records(part, record)
    check_committed_unchanged(shards, done)
    if alone and len(done) < len(part.shards):
        # They may stand from before a record was removed; readers must not trust them meanwhile.
        for mark in (PUBLISHED_NAME, SUCCESS_NAME):
            storage.remove(storage.join(output, mark))
    return done


def committed_records(plan: Plan, record: str) -> Records:
    """Return the committed records of ``plan`` by shard name."""
    ledger = read_ledger(record, (shard.name for shard in plan.shards))
    for name in uncommitted(plan, ledger):
        ledger.pop(name, None)
    return ledger


def _check_same_input(plan: Plan, shards: Sequence[ShardInput], output: str) -> None:
    if len(plan.shards) == len(shards) and all(
        then.url == now.url for then, now in zip(plan.shards, shards, strict=True)
    ):
        return
    before = {shard.name: shard.url for shard in plan.shards}
    now = {shard.name: shard.url for shard in shards}
    if before != now:
        changed = sorted(
            name for name in before.keys() | now.keys() if before.get(name) != now.get(name)
        )
        raise UsageError(
            f"the input of {output} was frozen as {len(before)} shards when its run began and "
            f"differs now in {len(changed)}, first {changed[0]} (then {before.get(changed[0])}, "
            f"now {now.get(changed[0])}); give the same input to go on, or another output folder"
        )


def check_committed_unchanged(
    shards: Sequence[ShardInput], done: Mapping[str, LedgerRecord]
) -> None:
    """Refuse to go on when an input shard has changed since it was protected.

    A shard that is not committed yet may have been repaired meanwhile.

    Raises:
        UsageError: one has changed.
    """
    for shard in shards:
        record = done.get(shard.name)
        if record is None:
            continue
        source = record.input
        then, now = (source.get("size"), source.get("etag")), (shard.size, shard.etag)
        if any(None not in pair and pair[0] != pair[1] for pair in zip(then, now, strict=True)):
            raise UsageError(
                f"the input shard {shard.url} has changed since it was protected (size and mark "
                f"were {then}, are {now}); put it back, or use another output folder"
            )


def _difference(before: dict[str, Any], after: dict[str, Any]) -> str:
    """Name the settings that differ."""

    def flat(config: dict[str, object], prefix: str = "") -> dict[str, object]:
        result: dict[str, object] = {}
        for name, value in config.items():
            result |= (
                flat(value, f"{prefix}{name}.")
                if isinstance(value, dict)
                else {prefix + name: value}
            )
        return result

    then, now = flat(before), flat(after)
    names = sorted(name for name in then.keys() | now.keys() if then.get(name) != now.get(name))
    return ", ".join(
        f"{n}: {canonical_json(then.get(n))} then, {canonical_json(now.get(n))} now" for n in names
    )
