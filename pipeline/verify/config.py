"""Options of `verify`: every field's docstring is the help text of its option."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

from ..execution.config import ExecutorName


@dataclass(frozen=True)
class VerifyConfig:
    """Check every promise of a protected copy from its published files alone."""

    output: str
    """URL of the directory that `protect` wrote."""
    _: KW_ONLY
    against: str | None = None
    """The shards that were protected; every image and caption is compared with its original."""
    max_pixels: int = 1 << 26
    """Images with more pixels are refused before they are decoded."""
    max_listed: int = 1000
    """Violations that are listed one by one; further ones are only counted."""
    threads: int = 2
    """Threads of a worker that decode and compare images."""
    sample_shards: int | None = None
    """Check this many shards, drawn at random, and say what that tells of the others."""
    seed: int | None = None
    """Seed of the draw, to check the same shards again; another draw each time when unset."""
    executor: ExecutorName = "auto"
    """Where shards are checked: local, ray, or auto (ray if RAY_ADDRESS or workers > 1)."""
    workers: int = 1
    """Ray actors, each with one shard running and one queued."""
    shard_timeout: float = 0.0
    """Seconds an attempt at a shard may take before its process is ended; 0 sets no limit."""
    json: bool = False
    """Print JSON for machines."""
