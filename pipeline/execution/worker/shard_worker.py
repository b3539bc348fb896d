"""The worker: protects one shard and commits it. It knows of no other shard and of no scheduler."""

import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import fmean

import torch

from ...data import storage
from ...data.canonical_json import canonical_json
from ...data.images import budget_policy
from ...data.ledger import LedgerRecord, read_record, write_record
from ...data.manifest import ManifestRow, ManifestWriter, manifest_url
from ...data.shards import Sample, ShardWriter, open_shard
from ...data.sidecars import publish_sidecars
from ...data.transient import retries
from ...errors import ShardError, UsageError
from ...method.protected import ProtectedBatch
from ...method.protector import BatchProtector
from ...method.surrogate import Surrogate
from ...seeds import derive_seed
from ..artifact import load_surrogate
from ..checks import choose_device
from ..driver.schedule import ShardTask, failed_by
from ..spec import RunSpec, WorkerSetup
from .batches import form_batches
from .gathered import Gathered, Job
from .samples import Change, Item, count_repeats, load_sample, publish_sample
from .scratch import scratch_folder
from .streams import Prefetch, Sink, ordered_map
from .told_once import ToldOnce

# A batch holds the pixels of this many budgets; a larger image weighs as much as several.
_BATCH_BUDGETS = 4
# So do large files beside it: a batch of weight 128 holds at most 1.6 GB of files in memory, and
# 4 GB on the local disk of large files that are passed on.
_UNIT_BYTES = 3 << 22
_UNIT_PASSED = 1 << 25

_SHARD, _MANIFEST = "shard.tar", "manifest.parquet"


class ShardWorker:
    """Protects shards one at a time, in the thread that calls it.

    Decoding, encoding and measuring run on threads beside the optimisation; the queues between them
    are bounded, so memory depends on the batch and not on the shard.

    Args:
        spec: everything that determines the bytes.
        surrogate: the frozen surrogate; None when the method needs none.
        io_threads: threads that decode and encode.
        device: torch device of the optimisation.

    Attributes:
        samples_done: samples of the shard in work that are written; for whoever watches.
    """

    def __init__(
        self,
        spec: RunSpec,
        surrogate: Surrogate | None,
        *,
        io_threads: int = 2,
        device: str = "cpu",
    ) -> None:
        self._spec = spec
        self._hash = spec.hash
        self._surrogate = surrogate
        self._protect = BatchProtector(surrogate, spec.mem, device)
        self._io_threads = io_threads
        self.samples_done = 0

    @property
    def model_bytes(self) -> int:
        """Bytes of the surrogate's models on the device."""
        models = self._protect.models
        return sum(value.nbytes for model in models for value in model.state_dict().values())

    def run(self, task: ShardTask) -> LedgerRecord:
        """Protect and commit one shard.

        The ledger record is written last: until it is there the shard does not exist, so the
        process may die at any instant before.

        Returns:
            the committed record, or an unwritten one with status ``failed`` when the shard's data
            make it unusable.
        """
        if (done := self._committed(task)) is not None:
            return done
        started = time.time()
        try:
            with scratch_folder() as folder, fixed_threads(self._spec.torch_threads):
                result = self._transform(task, folder)
                result.tell(task.shard.name)
                publish_sidecars(
                    task.shard.url,
                    task.output,
                    task.shard.name,
                    folder / _MANIFEST,
                    self._spec.caption_fields,
                )
                return self._commit(task, folder, result, started)
        except ShardError as error:
            return failed_by(error, task, self._hash)

    def _committed(self, task: ShardTask) -> LedgerRecord | None:
        """Return the record of an attempt that died only after its commit, or of a joined run."""
        record = read_record(task.record, task.shard.name)
        if record is None or record.config_hash != self._hash or record.status != "committed":
            return None
        return record

    def _transform(self, task: ShardTask, folder: Path) -> Gathered:
        """Read the shard, write the protected one and its manifest into ``folder``."""
        spec, shard = self._spec, task.shard
        result = Gathered(ToldOnce(shard.name, "quarantined"))
        self.samples_done = 0
        window = 2 * self._io_threads
        with (
            ThreadPoolExecutor(self._io_threads, "io", torch.set_num_threads, (1,)) as pool,
            open_shard(shard.url, folder=folder) as reader,
            ShardWriter(folder / _SHARD) as writer,
            ManifestWriter(folder / _MANIFEST, self._metadata(shard.name)) as manifest,
        ):
            load = partial(load_sample, shard=shard.name, spec=spec, told=result.told)
            loaded = ordered_map(pool, load, reader, window)

            def write(jobs: Iterator[Job]) -> None:
                publish = partial(self._publish, told=result.told)
                for row, sample in ordered_map(pool, publish, jobs, window):
                    manifest.write(result.count(row))
                    self.samples_done += 1
                    if sample is not None:
                        result.repeats += count_repeats(sample, spec)
                        writer.write(sample)

            prefetch = Prefetch(loaded, spec.batch_size, self._weight)
            with (
                prefetch as items,
                Sink(write, spec.batch_size, lambda job: self._weight(job[0])) as sink,
            ):
                for index, batch in enumerate(form_batches(items, self._weight, spec.batch_size)):
                    for job in self._optimise(shard.name, index, batch, result):
                        sink.put(job)
            result.observe(prefetch.channel, sink.channel)
            result.told.tell()
            if shard.size is not None and reader.size != shard.size:
                came = f"{reader.size} bytes came, {shard.size} were expected"
                raise ShardError(f"{shard.url}: {came}")
            result.read(shard.url, reader)
            result.sha256, result.size = writer.close()
            manifest.add_metadata({"passes": canonical_json(result.passes.as_dict())})
            result.manifest_sha256, result.manifest_size = manifest.close()
        return result

    def _weight(self, item: Item) -> int:
        """Weight of ``item`` in a batch: 1 for a small image."""
        if item.content is None:
            return 0
        size = self._spec.batch_size
        members = item.content.sample.members
        held = sum(len(member.data) for member in members)
        pictures = (item.content, *item.content.others)
        pixels = sum(one.image.shape[1] * one.image.shape[2] for one in pictures)
        loads = (
            pixels / max(1, _BATCH_BUDGETS * self._spec.mem.pixel_budget // size),
            held / _UNIT_BYTES,
            (sum(member.size for member in members) - held) / _UNIT_PASSED,
        )
        return min(size, math.ceil(max(loads)))

    def _publish(self, job: Job, told: ToldOnce) -> tuple[ManifestRow, Sample | None]:
        tokenizer = self._surrogate.tokenizer if self._surrogate is not None else None
        return publish_sample(*job, self._spec, tokenizer, told)

    def _optimise(
        self, shard: str, index: int, batch: list[Item], result: Gathered
    ) -> Iterator[Job]:
        """Yield every item of ``batch`` with what the method found for it."""
        contents = [item.content for item in batch if item.content is not None]
        changes: Iterator[Change] = iter(())
        if contents:
            seed = derive_seed(self._spec.seed, shard, index)
            started, processor = time.perf_counter(), time.thread_time()
            found = self._protect(
                [content.image for content in contents],
                [content.captions for content in contents],
                seed,
                self._spec.measures(shard, index),
                result.texts,
            )
            result.optimise_seconds += time.perf_counter() - started
            result.optimise_cpu += time.thread_time() - processor
            result.passes.add(found.passes)
            result.losses += [loss for loss in found.loss_after if not math.isnan(loss)]
            changes = self._changes(found, index, seed)
        for item in batch:
            yield item, next(changes) if item.content is not None else None

    def _changes(self, found: ProtectedBatch, index: int, seed: int) -> Iterator[Change]:
        for row, delta in enumerate(found.delta):
            yield Change(
                delta,
                found.trigger_ids[row],
                found.trigger_text[row],
                batch=index,
                batch_seed=seed,
                shuffle_seeds=found.shuffle_seeds,
                loss_before=_number(found.loss_before[row]),
                loss_after=_number(found.loss_after[row]),
            )

    def _commit(
        self, task: ShardTask, folder: Path, result: Gathered, started: float
    ) -> LedgerRecord:
        """Upload shard and manifest, then the record that makes them exist."""
        name = task.shard.name
        uploading = time.time()
        storage.put_file(folder / _SHARD, storage.join(task.output, f"{name}.tar"))
        storage.put_file(folder / _MANIFEST, manifest_url(task.record, name))
        counts = result.counts
        done = max(counts["protected"], 1)
        now = time.time()
        record = LedgerRecord(
            shard=name,
            status="committed",
            config_hash=self._hash,
            samples=counts.total(),
            protected=counts["protected"],
            quarantined=counts["quarantined"],
            shard_sha256=result.sha256,
            shard_size=result.size,
            manifest_sha256=result.manifest_sha256,
            manifest_size=result.manifest_size,
            input={**result.input, "etag": task.shard.etag},
            attempts=task.attempt,
            retries=retries() - result.retries_before,
            repeats=result.repeats,
            timings={
                "started": started,
                "finished": now,
                "seconds": now - started,
                "optimise": result.optimise_seconds,
                "optimise_cpu": result.optimise_cpu,
                "cpu": time.process_time() - result.cpu_before,
                "upload": now - uploading,
                **result.timings,
            },
            queues=result.queues,
            passes={kind: count / done for kind, count in vars(result.passes).items()},
            loss=fmean(result.losses) if result.losses else None,
            reasons=dict(result.reasons),
            notes=dict(result.notes),
        )
        write_record(task.record, record)
        return record

    def _metadata(self, shard: str) -> dict[str, str]:
        spec, surrogate = self._spec, self._surrogate
        model = surrogate.spec if surrogate is not None else None
        return {
            "version": spec.version,
            "shard": shard,
            "config": canonical_json(spec.as_dict()),
            "config_hash": self._hash,
            "tokenizer": model.name if model is not None else "",
            "context_length": str(model.context_length) if model is not None else "",
            "trigger_words": str(spec.trigger_words),
            "epsilon": str(spec.mem.epsilon),
            "strength": spec.strength,
            "floor": str(spec.floor),
            "budget": budget_policy(spec.mem.epsilon, spec.floor),
            "surrogate_sha256": spec.surrogate_sha256,
        }


def make_worker(setup: WorkerSetup) -> ShardWorker:
    """Load the surrogate and return a worker for this process."""
    surrogate = None
    if setup.surrogate is not None:
        surrogate, found = load_surrogate(setup.surrogate)
        if found != setup.spec.surrogate_sha256:
            raise UsageError(
                f"surrogate {setup.surrogate} has sha256 {found} here, the run began with "
                f"{setup.spec.surrogate_sha256}; give all workers the same folder"
            )
    device = choose_device(setup.device)
    return ShardWorker(setup.spec, surrogate, io_threads=setup.io_threads, device=device)


@contextmanager
def fixed_threads(count: int) -> Iterator[None]:
    """Use ``count`` threads for tensor operations: sums depend on how they are split."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
