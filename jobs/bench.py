"""``unlearnable bench``: what protection costs on this machine."""

from __future__ import annotations

import platform
import tempfile
from dataclasses import KW_ONLY, dataclass
from typing import Annotated

from cyclopts import Parameter


@dataclass(frozen=True)
class BenchConfig:
    """Tell what protection costs on this machine."""

    input: str
    """Shards to protect: an fsspec URL of a directory, a glob, a brace list or one shard."""
    _: KW_ONLY
    surrogate: str
    """URL of the folder that `fit` wrote."""
    device: str = "auto"
    """auto (a GPU where there is one), cpu, or a torch device such as cuda:0."""


def bench(config: Annotated[BenchConfig, Parameter(name="*")]) -> int:
    """Protect shards into a temporary folder, in this process, and tell what it cost."""
    from ..pipeline.data.ledger import read_ledger
    from ..pipeline.execution.config import ProtectConfig
    from ..pipeline.execution.run import protect
    from ..pipeline.method.passes import Passes

    with tempfile.TemporaryDirectory(prefix="unlearnable-bench-") as output:
        run = ProtectConfig(
            config.input,
            output,
            surrogate=config.surrogate,
            executor="local",
            device=config.device,
            max_quarantined=1,
        )
        summary = protect(run)
        records = list(read_ledger(output).values())
    if summary.exit_code or not summary.protected:
        print(summary)
        return summary.exit_code or 3
    seconds = sum(record.timings["seconds"] for record in records)
    optimise = sum(record.timings["optimise"] for record in records)
    total = {
        kind: round(sum(record.passes[kind] * record.protected for record in records))
        for kind in records[0].passes
    }
    images, texts = (
        Passes.weigh(total[f"{tower}_forward"], total[f"{tower}_backward"]) / summary.protected
        for tower in ("image", "text")
    )
    print(f"{platform.machine()}, {run.torch_threads} thread(s), device {config.device}")
    print(f"{summary.protected} samples, {summary.protected / seconds:.1f} samples/s")
    print(f"{1 - optimise / seconds:.1%} of the time is not optimisation")
    print(f"{images:.2f} image and {texts:.2f} text passes a sample (a forward alone is 1/3)")
    return 0
