"""Originals beside their published copies, for a seeded choice of samples."""

import hashlib
from collections.abc import Sequence

from ..data import storage
from ..data.images import image_member
from ..data.ledger import LedgerRecord
from ..data.manifest import ManifestRow, manifest_url, open_manifest
from ..data.plan import Plan, ShardInput, resolve_input
from ..data.shards import Sample, open_shard
from ..errors import SampleError, ShardError
from .config import ReportConfig
from .figures import Comparison, compare
from .tally import choose


def find_comparisons(
    config: ReportConfig, kept: str, plan: Plan, records: Sequence[LedgerRecord]
) -> tuple[list[Comparison], list[str]]:
    """Return the chosen samples before and after, and why others are not shown.

    Args:
        config: how many, and where the originals are.
        kept: URL of the record.
        plan: the plan of the copy.
        records: its committed shards.

    Raises:
        UsageError: ``config.against`` names no shards.
    """
    if not config.samples:
        return [], []
    sources = {shard.name: shard for shard in plan.shards}
    if config.against is not None:
        sources = {shard.name: shard for shard in resolve_input(config.against)}
    protected = [(record.shard, record.protected) for record in records]
    shown: list[Comparison] = []
    notes: list[str] = []
    for shard, keys in choose(kept, protected, config.samples, config.seed).items():
        try:
            shown += _of_shard(config, kept, plan, sources.get(shard), shard, keys)
        except (ShardError, SampleError, OSError) as error:
            notes.append(f"{shard}: {error}; --against tells where the originals are")
    return shown, notes


def _of_shard(
    config: ReportConfig,
    kept: str,
    plan: Plan,
    source: ShardInput | None,
    shard: str,
    keys: list[str],
) -> list[Comparison]:
    """Compare the samples ``keys`` of one shard, in its order."""
    if source is None:
        raise ShardError("the originals do not hold this shard")
    with open_manifest(manifest_url(kept, shard)) as manifest:
        rows = {row.key: row for row in manifest if row.key in keys}
    fields = tuple(plan.config.get("caption_fields", ("caption", "captions")))
    before = _pick(source.url, keys)
    after = _pick(storage.join(config.output, f"{shard}.tar"), keys)
    return [
        compare(_original(before, rows[key]), after[key], rows[key], fields)
        for key in rows
        if key in after
    ]


def _original(samples: dict[str, Sample], row: ManifestRow) -> Sample:
    sample = samples.get(row.key)
    if sample is None:
        raise ShardError(f"the originals do not hold {row.key}")
    if hashlib.sha256(image_member(sample, several=True).data).hexdigest() != row.input_sha256:
        raise ShardError(f"{row.key} is no longer the image that was protected")
    return sample


def _pick(url: str, keys: list[str]) -> dict[str, Sample]:
    """Read a shard as far as the last of ``keys``."""
    found: dict[str, Sample] = {}
    with open_shard(url) as reader:
        for sample in reader:
            if sample.key in keys:
                found[sample.key] = sample
                if len(found) == len(keys):
                    break
    return found
