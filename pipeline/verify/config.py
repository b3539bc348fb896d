"""Options of `verify`: every field's docstring is the help text of its option."""

from dataclasses import dataclass

from ..execution.options import ExecutorOptions, PixelLimit, RecordOption


@dataclass(frozen=True)
class _Output:
    output: str
    """URL of the directory that `protect` wrote."""


@dataclass(frozen=True, kw_only=True)
class VerifyConfig(ExecutorOptions, PixelLimit, RecordOption, _Output):
    """Check every promise of a protected copy; without its record, what any reader can check."""

    against: str | None = None
    """The shards that were protected; every image and caption is compared with its original."""
    max_listed: int = 1000
    """Violations that are listed one by one; further ones are only counted."""
    threads: int = 2
    """Threads of a worker that decode and compare images."""
    sample_shards: int | None = None
    """Check this many shards, drawn at random, and say what that tells of the others."""
    seed: int | None = None
    """Seed of the draw, to check the same shards again; another draw each time when unset."""
    json: bool = False
    """Print JSON for machines."""
