"""``unlearnable verify``: every promise of a protected copy, checked from its files."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from ..pipeline.verify.config import VerifyConfig


def verify(config: Annotated[VerifyConfig, Parameter(name="*")]) -> int:
    """Check a protected copy from its published files alone; exit code 4 tells of a violation."""
    from ..pipeline.verify.verify import verify as run

    report = run(config)
    print(report.to_json() if config.json else report)
    return report.exit_code
