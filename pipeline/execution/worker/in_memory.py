"""Samples in memory, protected by the worker that protects shards."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from ...data import storage
from ...data.manifest import ManifestRow, manifest_url, read_manifest
from ...data.plan import ShardInput
from ...data.shards import Sample, open_shard, write_shard
from ...errors import ShardError
from ...method.surrogate import Surrogate
from ..driver.schedule import ShardTask
from ..spec import RunSpec
from .batches import form_batches
from .scratch import scratch_folder
from .shard_worker import ShardWorker

Protected = tuple[ManifestRow, Sample | None]


def protect_samples(
    samples: Sequence[Sample],
    spec: RunSpec,
    surrogate: Surrogate | None,
    *,
    device: str = "cpu",
    io_threads: int = 2,
) -> Iterator[list[Protected]]:
    """Yield the manifest row of each sample and the sample to publish, one batch at a time.

    Each batch travels through a shard in a scratch folder: what happens to a sample here and in a
    corpus can never differ.

    Args:
        samples: with keys that differ.
        spec: everything that determines the bytes.
        surrogate: the frozen surrogate; None when the method needs none.
        device: torch device.
        io_threads: threads that decode and encode.

    Raises:
        ShardError: the samples cannot be written as a shard and read again.
    """
    worker = ShardWorker(spec, surrogate, io_threads=io_threads, device=device)
    for index, batch in enumerate(form_batches(samples, lambda _: 1, spec.batch_size)):
        with scratch_folder() as folder:
            yield _protect(worker, folder, f"batch-{index:05d}", batch)


def _protect(worker: ShardWorker, folder: Path, name: str, batch: list[Sample]) -> list[Protected]:
    source, output, kept = folder / "source.tar", str(folder / "output"), str(folder / "record")
    write_shard(source, batch)
    record = worker.run(ShardTask(ShardInput(name, str(source)), output, kept))
    if record.status == "failed":
        raise ShardError(record.error or "")
    rows, _ = read_manifest(manifest_url(kept, name))
    with open_shard(storage.join(output, f"{name}.tar")) as reader:
        published = {sample.key: sample for sample in reader}
    return [(row, published.get(row.key)) for row in rows]
