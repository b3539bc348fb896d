"""``unlearnable retry``: the failed shards again."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from ..pipeline.execution.config import RetryConfig


def retry(config: Annotated[RetryConfig, Parameter(name="*")]) -> int:
    """Run the shards again that a run gave up, with the settings that its plan froze."""
    from ..pipeline.execution.retry import retry as run

    summary = run(config)
    print(summary)
    return summary.exit_code
