"""Options of `run`: those of `fit` and `protect`, and a few of its own.

Every field's docstring is the help text of its option.
"""

from dataclasses import dataclass, field

from ..pipeline.execution.config import FitSamples, InputOutput, ProtectConfig
from ..pipeline.method.config import FitOptions


@dataclass(frozen=True, kw_only=True)
class WholeRunConfig(ProtectConfig, FitOptions, FitSamples, InputOutput):
    """From a collection to a verified copy of it; the same command again goes on.

    An option of `fit` or `protect` reaches each step that has it.
    """

    input: str = field(kw_only=False)
    """Shards, or a local folder of pictures with a table of captions."""
    surrogate: str | None = None
    """URL of the surrogate's folder; fitted there when it is empty. `OUTPUT-surrogate` if unset."""
    trigger_words: int | None = None  # type: ignore[assignment]
    """Words put in front of each caption, 1 to 16; 3 in a new surrogate."""
    captions: str | None = None
    """Table of captions of a folder of pictures; INPUT/captions.* when unset."""
    samples_per_shard: int = 1000
    """Samples in a shard that is made from a folder of pictures."""
    max_left_out: float = 0.01
    """Share of a table's rows without image or caption above which the exit code is 3."""
    html: str | None = None
    """URL of the report; `OUTPUT-report.html` when unset. It shows triggers: keep it."""
