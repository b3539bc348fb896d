"""Checks of what describes a protected copy as a whole: plan, ledger, index, marks, names, card."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..data import storage
from ..data.card import check_card
from ..data.ledger import (
    INDEX_NAME,
    LEDGER_DIR,
    SUCCESS_NAME,
    LedgerRecord,
    build_index,
    index_entry,
    read_ledger,
    read_record,
    uncommitted,
)
from ..data.manifest import MANIFEST_DIR
from ..data.plan import Plan, ShardInput, config_hash
from ..errors import UsageError
from .findings import Findings


def check_inputs(plan: Plan, originals: Mapping[str, str], findings: Findings) -> None:
    """Compare the names of the plan with those of the originals."""
    planned = {shard.name for shard in plan.shards}
    for name in sorted(planned - set(originals)):
        findings.add("input_missing", name, "", "the plan has this shard, the input has not")
    for name in sorted(set(originals) - planned):
        findings.add("input_not_planned", name, "", f"{originals[name]} was never protected")


def check_run(
    output: str,
    record: str,
    plan: Plan,
    findings: Findings,
    sample: Sequence[ShardInput] | None,
) -> None:
    """Check what describes the copy as a whole.

    Args:
        output: URL of the copy.
        record: URL of its record; a copy of version 0.1.0 has it inside, and another card.
        plan: its plan.
        findings: added to.
        sample: the shards that are looked at, None for all. With a sample no more is read than
            lists of names, the index, and the records of these shards; the card is left alone.
    """
    found = config_hash(plan.config)
    if found != plan.config_hash:
        message = f"the configuration hashes to {found}, the plan says {plan.config_hash}"
        findings.add("plan_damaged", "", "", message)
    if sample is not None:
        _check_success(output, plan, findings)
        _check_index_of(output, record, plan, sample, findings)
        _check_records_listed(record, plan, sample, findings)
        _check_names(output, record, plan, findings)
        return
    try:
        ledger = read_ledger(record)
    except UsageError as error:
        findings.add("ledger_mismatch", "", "", str(error))
        return
    _check_success(output, plan, findings)
    if not uncommitted(plan, ledger) and not any(record.protected for record in ledger.values()):
        findings.add("nothing_protected", "", "", f"{len(plan.shards)} shards without a sample")
    _check_index(output, plan, ledger, findings)
    _check_names(output, record, plan, findings)
    if record != output:
        for problem in check_card(output, plan, ledger):
            findings.add("card_mismatch", "", "", problem)


def _check_success(output: str, plan: Plan, findings: Findings) -> None:
    try:
        content = storage.read_bytes(storage.join(output, SUCCESS_NAME))
    except OSError:
        findings.add(
            "not_finished", "", "", f"{SUCCESS_NAME} is missing; run protect again to finish"
        )
        return
    # Version 0.1.0 wrote the hash of the configuration.
    if content.decode(errors="replace").strip() not in (_index_sha256(output), plan.config_hash):
        findings.add("not_finished", "", "", f"{SUCCESS_NAME} is the mark of another {INDEX_NAME}")


def _index_sha256(output: str) -> str:
    try:
        return hashlib.sha256(storage.read_bytes(storage.join(output, INDEX_NAME))).hexdigest()
    except OSError:
        return ""


def _read_index(output: str, findings: Findings) -> Any:
    """Return the content of the index, without what version 0.1.0 had more; None if unreadable."""
    try:
        index = json.loads(storage.read_bytes(storage.join(output, INDEX_NAME)))
        return _without_older(index)
    except (OSError, ValueError, RecursionError) as error:
        findings.add("index_mismatch", "", "", f"{INDEX_NAME} cannot be read ({error})")
        return None


def _without_older(index: Any) -> Any:
    if not isinstance(index, dict):
        return index
    entries = index.get("shardlist")
    if isinstance(entries, list):
        entries = [
            {k: v for k, v in entry.items() if not k.startswith("manifest")}
            if isinstance(entry, dict)
            else entry
            for entry in entries
        ]
    return {k: v for k, v in index.items() if k != "config_hash"} | {"shardlist": entries}


def _check_index(
    output: str, plan: Plan, ledger: Mapping[str, LedgerRecord], findings: Findings
) -> None:
    if uncommitted(plan, ledger):
        return  # reported shard by shard; there is no index of an incomplete ledger
    index = _read_index(output, findings)
    expected = build_index(plan, ledger)
    if index is not None and "caption_fields" not in index:
        expected.pop("caption_fields")
    if index is not None and index != expected:
        findings.add("index_mismatch", "", "", f"{INDEX_NAME} differs from the ledger's")


def _check_index_of(
    output: str, kept: str, plan: Plan, sample: Sequence[ShardInput], findings: Findings
) -> None:
    """Compare the index with the plan's names and with the records of the sample."""
    index = _read_index(output, findings)
    if index is None:
        return
    try:
        entries = {entry["url"]: entry for entry in index["shardlist"]}
        names = [entry["url"] for entry in index["shardlist"]]
    except (KeyError, TypeError):
        findings.add("index_mismatch", "", "", f"{INDEX_NAME} has no list of shards")
        return
    if names != [f"{shard.name}.tar" for shard in plan.shards]:
        findings.add("index_mismatch", "", "", f"{INDEX_NAME} lists other shards than the plan")
    for shard in sample:
        try:
            record = read_record(kept, shard.name)
        except UsageError:
            continue  # reported with the shard
        if record is not None and entries.get(f"{shard.name}.tar") != index_entry(record):
            message = f"{INDEX_NAME} differs from the record"
            findings.add("index_mismatch", shard.name, "", message)


def _check_records_listed(
    record: str, plan: Plan, sample: Sequence[ShardInput], findings: Findings
) -> None:
    """Report planned shards outside the sample that have no record, by name."""
    listed = set(storage.list_names(storage.join(record, LEDGER_DIR)))
    looked_at = {shard.name for shard in sample}
    for shard in plan.shards:
        if shard.name not in looked_at and f"{shard.name}.json" not in listed:
            findings.add("ledger_missing", shard.name, "", "no record commits this shard")


def _check_names(output: str, record: str, plan: Plan, findings: Findings) -> None:
    names = [shard.name for shard in plan.shards]
    expected = {
        "": {f"{name}.tar" for name in names},
        MANIFEST_DIR: {f"{name}.parquet" for name in names},
        LEDGER_DIR: {f"{name}{end}" for name in names for end in (".json", ".failed.json")},
    }
    for folder, allowed in expected.items():
        for name in storage.list_names(storage.join(record, folder) if folder else output):
            # Beside the shards the owner may keep other files, such as a licence.
            if name not in allowed and (folder or name.endswith(".tar")):
                path = f"{folder}/{name}" if folder else name
                findings.add("unexpected_file", "", "", f"{path} belongs to no planned shard")
