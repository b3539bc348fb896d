"""``unlearnable report``: a page about a protected copy."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from ..pipeline.report.config import ReportConfig


def report(config: Annotated[ReportConfig, Parameter(name="*")]) -> int:
    """Write one HTML page, without network, about a protected copy."""
    from ..pipeline.report.report import report as run

    print(run(config))
    return 0
