"""``unlearnable status``: how far a run is."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from ..pipeline.execution.config import StatusConfig


def status(config: Annotated[StatusConfig, Parameter(name="*")]) -> int:
    """Tell how far a run is, from its ledger alone, from any machine and while it runs."""
    from ..pipeline.execution.status import shard_status
    from ..pipeline.execution.status import status as run

    report = run(config) if config.shard is None else shard_status(config, config.shard)
    print(report.to_json() if config.json else report)
    return 0
