"""``unlearnable restore``: the captions as they were."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from ..pipeline.execution.config import RestoreConfig


def restore(config: Annotated[RestoreConfig, Parameter(name="*")]) -> int:
    """Write the protected shards again with the triggers stripped from their captions."""
    from ..pipeline.execution.restore import restore as run

    summary = run(config)
    print(summary)
    return summary.exit_code
