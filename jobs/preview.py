"""``unlearnable preview``: a few samples before and after."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from ..pipeline.report.config import PreviewConfig


def preview(config: Annotated[PreviewConfig, Parameter(name="*")]) -> int:
    """Protect a few samples and show them before, after and their difference."""
    from ..pipeline.report.preview import preview as run

    print(run(config))
    return 0
