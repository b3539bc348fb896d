"""What `preview` and `report` can be told: the dataclasses that the command line is made from.

Every field's docstring is the help text of its option; fields of a base without ``kw_only`` are
positional.
"""

from dataclasses import dataclass

from ..execution.options import ReadOptions, RecordOption
from ..method.config import Bound


@dataclass(frozen=True)
class _Input:
    input: str
    """Shards to look at: an fsspec URL of a directory, a glob, a brace list or one shard."""


@dataclass(frozen=True, kw_only=True)
class PreviewConfig(Bound, ReadOptions, _Input):
    """Protect a few samples and write them beside their originals as a picture."""

    n: int = 6
    """Samples shown, 1 to 64."""
    output: str = "preview.png"
    """URL of the PNG that is written."""
    surrogate: str | None = None
    """URL of the folder that `fit` wrote; patterns of the seed when unset."""
    trigger_words: int = 3
    """Words put in front of each caption, 1 to 16; a surrogate brings its own number."""
    seed: int = 0
    """Seed of the choice of samples and of their protection."""


@dataclass(frozen=True)
class _ReportOutput:
    output: str
    """URL of the directory that `protect` wrote."""


@dataclass(frozen=True, kw_only=True)
class ReportConfig(RecordOption, _ReportOutput):
    """Write one HTML page, without network, about a protected copy."""

    html: str
    """URL of the page that is written."""
    results: str | None = None
    """URL of the JSON file that `evaluate` wrote: the page then tells how strong the copy is."""
    against: str | None = None
    """The shards that were protected, where they have moved since; their plan knows where."""
    samples: int = 24
    """Samples shown before and after, 0 to 64: half by chance, half where the change shows most."""
    seed: int = 0
    """Seed of the choice of samples."""
