"""``unlearnable evaluate``: what models learn from the corpora."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from ..pipeline.evaluate.config import EvaluateConfig


def evaluate(config: Annotated[EvaluateConfig, Parameter(name="*")]) -> int:
    """Train victims on each corpus, test them on clean shards, compare."""
    from ..pipeline.evaluate.evaluate import evaluate as run
    from ..pipeline.evaluate.tables import text_table

    print(text_table(run(config)))
    return 0
