"""The dry run: how much a run would read, write, take and cost, from a trial of a few batches."""

import tarfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from ..data.ledger import LedgerRecord
from ..data.plan import Plan, ShardInput
from ..data.record import find_record
from ..data.shards import Sample, open_shard, write_shard
from ..errors import ShardError
from ..method.passes import Passes
from .config import ProtectConfig
from .driver.resume import committed_records
from .driver.schedule import ShardTask
from .driver.summary import RunSummary
from .spec import WorkerSetup
from .worker.scratch import scratch_folder
from .worker.shard_worker import make_worker

_BATCHES = 2
_WARM_UP = 4
_TAR_BLOCK = 512
# The end of an archive, on average; and a manifest row with a sample's share of the record.
_END_BYTES = tarfile.RECORDSIZE // 2
_ROW_BYTES = 400


@dataclass(frozen=True)
class _Trial:
    """What the trial read and what a worker made of it.

    Attributes:
        read: bytes of the samples in their archive.
        fetched: seconds that reading them took.
        record: of the protected samples.
        model_bytes: of the surrogate's models in a worker.
    """

    read: int
    fetched: float
    record: LedgerRecord
    model_bytes: int


def estimate(
    config: ProtectConfig, setup: WorkerSetup, plan: Plan, shards: Sequence[ShardInput]
) -> RunSummary:
    """Count what is left to do, and extrapolate from the first batches of it; writes nothing.

    A worker of this process protects two batches into a local folder that vanishes. Reading and
    protecting overlap in a run, so the slower of them counts.
    """
    kept = find_record(config.output, config.record)
    done = committed_records(plan, kept)
    planned = {shard.name for shard in plan.shards}
    waiting = [s for s in shards if s.name in planned and s.name not in done]
    summary = RunSummary(config.output, kept, shards=len(plan.shards), committed=len(done))
    if not waiting:
        return replace(summary, estimated_bytes=0)
    trial = _try(waiting, setup)
    left = sum(shard.size or 0 for shard in waiting)
    share = left / trial.read if trial.read else 0.0
    record = trial.record
    seconds = share * max(record.timings["seconds"], trial.fetched)
    return replace(
        summary,
        samples=round(share * record.samples),
        estimated_bytes=round(
            share * (record.shard_size - _END_BYTES + record.samples * _ROW_BYTES)
        ),
        estimated_worker_seconds=seconds,
        estimated_seconds=seconds / min(config.workers, len(waiting)),
        estimated_passes=Passes.by_tower(record.passes),
        estimated_model_bytes=trial.model_bytes,
        estimated_cost=seconds / 3600 * config.worker_price if config.worker_price else None,
    )


def _try(waiting: Sequence[ShardInput], setup: WorkerSetup) -> _Trial:
    """Protect the first batches of the first shard that can be read.

    Raises:
        ShardError: none of the first ones can.
    """
    last: ShardError | None = None
    for shard in waiting[:5]:
        try:
            with scratch_folder() as folder:
                return _try_shard(shard, setup, folder)
        except ShardError as error:
            last = error
    assert last is not None, "something waits"
    raise last


def _try_shard(shard: ShardInput, setup: WorkerSetup, folder: Path) -> _Trial:
    worker = make_worker(setup)
    with ExitStack() as stack:
        reader = iter(stack.enter_context(open_shard(shard.url, folder=folder)))
        # The first samples of a worker wait for what is loaded and compiled once.
        first = list(islice(reader, _WARM_UP))
        started = time.perf_counter()
        more = list(islice(reader, _BATCHES * setup.spec.batch_size))
        fetched = time.perf_counter() - started
        few = len(more) < _WARM_UP
        usable = [sample for sample in (first if few else more) if sample.problem is None]
        for name, samples in (("warm", first), ("trial", usable)):
            write_shard(folder / f"{name}.tar", _renumbered(samples))
    record = LedgerRecord("", "failed", "")
    for name in ("warm", "trial"):
        part = ShardInput(name, str(folder / f"{name}.tar"))
        record = worker.run(ShardTask(part, str(folder / "out"), str(folder / "record")))
        if record.status == "failed":
            raise ShardError(record.error or "the trial failed")
    read = sum(_tar_bytes(sample) for sample in usable)
    return _Trial(read, fetched, record, worker.model_bytes)


def _renumbered(samples: Sequence[Sample]) -> Iterator[Sample]:
    for row, sample in enumerate(samples):
        if sample.problem is None:
            yield replace(sample, row=row)


def _tar_bytes(sample: Sample) -> int:
    return sum(_TAR_BLOCK + -(-member.size // _TAR_BLOCK) * _TAR_BLOCK for member in sample.members)
