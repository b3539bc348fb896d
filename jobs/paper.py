"""``unlearnable paper``: the paper's experiments, a table each."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from ..pipeline.experiments.paper.config import PaperConfig


def paper(config: Annotated[PaperConfig, Parameter(name="*")]) -> int:
    """Run one table of the MEM paper; run it again to go on, finished cells are kept."""
    from ..pipeline.experiments.paper.run import paper as run

    print(run(config))
    return 0
