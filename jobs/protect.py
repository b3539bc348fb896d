"""``unlearnable protect``: the protected copy."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from ..pipeline.execution.config import ProtectConfig


def protect(config: Annotated[ProtectConfig, Parameter(name="*")]) -> int:
    """Write a protected copy of a corpus; run it again to go on after an interruption."""
    from ..pipeline.execution.protect import protect as run

    summary = run(config)
    print(summary)
    return summary.exit_code
