"""Options of `bench`: every field's docstring is the help text of its option."""

from dataclasses import dataclass

from ...execution.options import DeviceOption

# The parts of a bench, in the order they run.
BENCH_SECTIONS = ("method", "io", "photos", "limit", "kernels", "workers", "driver")


@dataclass(frozen=True, kw_only=True)
class BenchConfig(DeviceOption):
    """Measure what protection costs on this machine."""

    only: tuple[str, ...] = BENCH_SECTIONS
    """Parts to run, with commas: method, io, photos, limit, kernels, workers,
    driver."""
    record: str | None = None
    """CSV file that the figures are added to, with device and versions."""
    plot: str | None = None
    """PNG that is drawn of the newest figures in the CSV file."""
    model: str = "tiny"
    """The surrogate: tiny (64 px, for CPUs) or the name of any open_clip model."""
    image_size: int | None = None
    """Side of the surrogate's square input in pixels; the model's own when unset."""
    samples: int = 150
    """Samples protected in method; twice as many in workers, five times in io."""
    batch_size: int = 128
    """Samples a batch."""
    shards: tuple[int, ...] = (1_000, 10_000, 100_000)
    """Empty shards that the driver is measured with."""
    torch_threads: int = 1
    """Threads of tensor operations."""
    scale: float = 1.0
    """Shrinks the batches that the kernels are measured with, for a first try."""
