"""The bench: which of its parts run, where the figures go, and how they stand to the goals."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import torch

from ...errors import UsageError
from ...execution.checks import choose_device
from .config import BENCH_SECTIONS, BenchConfig
from .record import Figure, append, here


def run_bench(config: BenchConfig, show: Callable[[str], object] = print) -> list[Figure]:
    """Run the parts of ``config.only``; every part's figures are recorded as soon as it ends.

    Raises:
        UsageError: no such part, or a setting out of range.
    """
    sections = tuple(name for part in config.only for name in part.split(","))
    config = replace(config, only=sections)
    _check(config)
    device = choose_device(config.device)
    figures: list[Figure] = []
    threads = torch.get_num_threads()
    torch.set_num_threads(config.torch_threads)
    try:
        for section in config.only:
            found = []
            for figure in _run(section, config, device):
                show(str(figure))
                found.append(figure)
            if config.record is not None:
                append(config.record, _named(found, config), here(device))
            figures += found
    finally:
        torch.set_num_threads(threads)
    if config.plot is not None and config.record is not None:
        from .chart import draw

        draw(config.record, config.plot)
    return figures


def _check(config: BenchConfig) -> None:
    unknown = sorted(set(config.only) - set(BENCH_SECTIONS))
    if unknown:
        raise UsageError(
            f"the bench has no part {unknown[0]!r}; choose of {', '.join(BENCH_SECTIONS)}"
        )
    if config.plot is not None and config.record is None:
        raise UsageError("--plot draws what --record keeps; give both")
    # Eight shards of at least two samples, and a contrastive loss needs company.
    if config.samples < 16 or config.batch_size < 2 or config.torch_threads < 1:
        raise UsageError("samples must be >= 16, batch-size >= 2, torch-threads >= 1")
    if min(config.shards, default=1) < 1 or not 0 < config.scale <= 1:
        raise UsageError("shards must be >= 1 and scale in 0..1")


def _named(figures: list[Figure], config: BenchConfig) -> list[Figure]:
    """Return the figures with the model they belong to where it is not the default one."""
    if config.model == "tiny":
        return figures
    return [
        Figure(f.section, f"{config.model}, {f.case}", f.metric, f.value, f.unit)
        if f.section in {"method", "io", "photos", "limit", "workers"}
        else f
        for f in figures
    ]


def _run(section: str, config: BenchConfig, device: str) -> Iterator[Figure]:
    # Each part imports what it needs: the kernels are measured where nothing else is installed.
    if section == "kernels":
        from .kernels import bench_kernels

        return bench_kernels(device, scale=config.scale)
    from . import method as bench_method
    from . import photographs as bench_photographs
    from . import shards as bench_shards

    settings = bench_method.fit_settings(config.model, config.image_size, device, config.batch_size)
    parts: dict[str, Callable[[], Iterator[Figure]]] = {
        "method": partial(bench_method.bench_schedules, settings, config.samples),
        "limit": partial(bench_method.bench_limit, settings),
        "io": partial(bench_shards.bench_io, settings, config.samples),
        "photos": partial(bench_photographs.bench_photographs, settings),
        "workers": partial(bench_shards.bench_workers, settings, config.samples),
        "driver": partial(bench_shards.bench_driver, config.shards),
    }
    return parts[section]()
