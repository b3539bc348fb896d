"""``unlearnable bench``: what protection costs on this machine."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from ..pipeline.experiments.bench.config import BenchConfig

_DEFAULT = BenchConfig()


def bench(config: Annotated[BenchConfig, Parameter(name="*")] = _DEFAULT) -> int:
    """Measure schedules, I/O, the model's limit, kernels, workers and the driver, each on its own.

    About 15 minutes on 2 cores; everything it reads it makes itself, in a temporary folder.
    """
    from ..pipeline.experiments.bench.run import run_bench

    run_bench(config)
    return 0
