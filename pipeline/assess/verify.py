"""`verify`: recompute every promise of a protected copy from its published files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import torch

from ..data import storage
from ..data.card import check_card
from ..data.ledger import (
    INDEX_NAME,
    LEDGER_DIR,
    SUCCESS_NAME,
    LedgerRecord,
    build_index,
    read_ledger,
    uncommitted,
)
from ..data.manifest import MANIFEST_DIR
from ..data.plan import Plan, config_hash, read_plan, resolve_input
from ..errors import UsageError
from .config import VerifyConfig
from .findings import CODES, Findings, VerifyReport, Violation
from .sample_checks import Rules
from .shard_checks import ShardCheck

__all__ = ["CODES", "VerifyReport", "Violation", "verify"]


def verify(config: VerifyConfig) -> VerifyReport:
    """Check a protected copy, with ``against`` also every image and caption against its original.

    Nothing is taken from the memory of the run that wrote it. Without the originals an attacker
    who rewrites manifests and records consistently cannot be told from the owner; with them every
    pixel is held to epsilon. Shards are streamed: memory is that of a few samples and one shard's
    manifest.

    Raises:
        UsageError: no plan at ``output``, or nothing at ``against``.
    """
    plan = read_plan(config.output)
    if plan is None:
        raise UsageError(f"{config.output} has no plan: it is not a folder that `protect` wrote")
    try:
        rules = Rules.of(plan.config, config.max_pixels)
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{config.output}: its plan holds no configuration ({error!r})") from error
    findings = Findings(config.max_listed)
    originals: dict[str, str] = {}
    if config.against is not None:
        originals = {shard.name: shard.url for shard in resolve_input(config.against)}
        _check_inputs(plan, originals, findings)
    _check_run(config.output, plan, findings)
    threads = config.threads
    with ThreadPoolExecutor(threads, "verify", torch.set_num_threads, (1,)) as pool:
        for shard in plan.shards:
            original = originals.get(shard.name)
            ShardCheck(config.output, plan, rules, shard.name, original, findings).run(pool)
    return VerifyReport(
        output=config.output,
        against=config.against,
        shards=len(plan.shards),
        samples=findings.samples,
        counts=dict(findings.counts),
        violations=findings.violations,
    )


def _check_inputs(plan: Plan, originals: Mapping[str, str], findings: Findings) -> None:
    planned = {shard.name for shard in plan.shards}
    for name in sorted(planned - set(originals)):
        findings.add("input_missing", name, "", "the plan has this shard, the input has not")
    for name in sorted(set(originals) - planned):
        findings.add("input_not_planned", name, "", f"{originals[name]} was never protected")


def _check_run(output: str, plan: Plan, findings: Findings) -> None:
    """Check what describes the copy as a whole."""
    found = config_hash(plan.config)
    if found != plan.config_hash:
        message = f"the configuration hashes to {found}, the plan says {plan.config_hash}"
        findings.add("plan_damaged", "", "", message)
    try:
        ledger = read_ledger(output)
    except UsageError as error:
        findings.add("ledger_mismatch", "", "", str(error))
        return
    _check_success(output, plan, findings)
    _check_index(output, plan, ledger, findings)
    _check_names(output, plan, findings)
    for problem in check_card(output):
        findings.add("card_mismatch", "", "", problem)


def _check_success(output: str, plan: Plan, findings: Findings) -> None:
    try:
        content = storage.read_bytes(storage.join(output, SUCCESS_NAME))
    except OSError:
        findings.add(
            "not_finished", "", "", f"{SUCCESS_NAME} is missing; run protect again to finish"
        )
        return
    if content.decode(errors="replace").strip() != plan.config_hash:
        findings.add("not_finished", "", "", f"{SUCCESS_NAME} is of another configuration")


def _check_index(
    output: str, plan: Plan, ledger: Mapping[str, LedgerRecord], findings: Findings
) -> None:
    if uncommitted(plan, ledger):
        return  # reported shard by shard; there is no index of an incomplete ledger
    try:
        index = json.loads(storage.read_bytes(storage.join(output, INDEX_NAME)))
    except (OSError, ValueError) as error:
        findings.add("index_mismatch", "", "", f"{INDEX_NAME} cannot be read ({error})")
        return
    if index != build_index(plan, ledger):
        findings.add("index_mismatch", "", "", f"{INDEX_NAME} differs from the ledger's")


def _check_names(output: str, plan: Plan, findings: Findings) -> None:
    names = [shard.name for shard in plan.shards]
    expected = {
        "": {f"{name}.tar" for name in names},
        MANIFEST_DIR: {f"{name}.parquet" for name in names},
        LEDGER_DIR: {f"{name}{end}" for name in names for end in (".json", ".failed.json")},
    }
    for folder, allowed in expected.items():
        for name in storage.list_names(storage.join(output, folder) if folder else output):
            # Beside the shards the owner may keep other files, such as a licence.
            if name not in allowed and (folder or name.endswith(".tar")):
                path = f"{folder}/{name}" if folder else name
                findings.add("unexpected_file", "", "", f"{path} belongs to no planned shard")
