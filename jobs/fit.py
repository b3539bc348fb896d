"""``unlearnable fit``: the surrogate that a corpus is protected against."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from ..pipeline.execution.config import FitRunConfig


def fit(config: Annotated[FitRunConfig, Parameter(name="*")]) -> int:
    """Fit a surrogate on a bounded part of a corpus, and write it as an artifact."""
    from ..pipeline.execution.fit import fit as run

    print(run(config))
    return 0
