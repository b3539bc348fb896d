"""The dry run: what a run would read and how much space its output would take."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from ..data.plan import Plan, ShardInput
from ..data.shards import Sample, open_shard
from ..method.config import MemConfig
from ..method.mem import protect_batch
from .config import ProtectConfig
from .resume import committed_records
from .samples import Change, load_sample, publish_sample
from .spec import RunSpec
from .summary import RunSummary

_PROBED = 16
_TAR_BLOCK = 512
# A manifest row and a sample's share of the record, rounded up.
_ROW_BYTES = 400


def estimate(
    config: ProtectConfig, spec: RunSpec, plan: Plan, shards: Sequence[ShardInput]
) -> RunSummary:
    """Count what is left to do and extrapolate its size from the first samples; writes nothing."""
    done = committed_records(plan, config.output)
    planned = {shard.name for shard in plan.shards}
    waiting = [s for s in shards if s.name in planned and s.name not in done]
    left = sum(shard.size or 0 for shard in waiting)
    read, written, count = _probe(waiting[0], spec) if waiting else (0, 0, 0)
    samples = round(left * count / read) if read else 0
    return RunSummary(
        output=config.output,
        shards=len(plan.shards),
        committed=len(done),
        samples=samples,
        estimated_bytes=round(left * written / read) + samples * _ROW_BYTES if read else 0,
    )


def _probe(shard: ShardInput, spec: RunSpec) -> tuple[int, int, int]:
    """Return bytes in the archive before and after, and the number, of the first samples.

    Their images are written with random noise, which compresses like a perturbation.
    """
    read = written = count = 0
    with open_shard(shard.url) as reader:
        for sample in islice(reader, _PROBED):
            count += 1
            read += _tar_bytes(sample)
            item = load_sample(sample, shard.name, spec)
            if item.content is None:
                continue
            noise = MemConfig(method="random", epsilon=spec.mem.epsilon)
            found = protect_batch(
                None, [item.content.image], [item.content.captions], noise, seed=0
            )
            _, published = publish_sample(item, Change(found.delta[0], [], "", {}), spec, None)
            written += _tar_bytes(published) if published is not None else 0
    return read, written, count


def _tar_bytes(sample: Sample) -> int:
    return sum(_TAR_BLOCK + -(-member.size // _TAR_BLOCK) * _TAR_BLOCK for member in sample.members)
