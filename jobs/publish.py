"""``unlearnable publish``: the mark of a copy that may be taken."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from ..pipeline.execution.config import PublishConfig


def publish(config: Annotated[PublishConfig, Parameter(name="*")]) -> int:
    """Write _PUBLISHED into a complete copy; run it after verify."""
    from ..pipeline.execution.publish import publish as run

    print(run(config))
    return 0
