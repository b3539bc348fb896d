"""Options that several commands share, each declared once; a command's configuration inherits them.

Every field's docstring is the help text of its option.
"""

# No postponed annotations: they would be looked up in the module of whoever inherits.
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeVar

from ..data.limits import MAX_PIXELS

ExecutorName = Literal["auto", "local", "ray"]
LossChoice = Literal["sample", "all", "none"]


T = TypeVar("T")


def part_of(kind: type[T], config: T) -> T:
    """Return what ``config`` has of the dataclass ``kind``, which it inherits."""
    values = vars(config)
    return kind(**{item.name: values[item.name] for item in fields(kind)})  # type: ignore[arg-type]


def step_of(kind: type[T], config: Any, **given: object) -> T:
    """Return the configuration of one step of a command whose configuration holds several.

    Args:
        kind: the step's dataclass.
        config: the command's, a dataclass that has fields of equal names.
        given: values of the step's own. Any other field takes the command's value where that was
            changed from the command's default; the step's default counts where it was not.
    """
    values = vars(config)
    own = {item.name for item in fields(kind)}  # type: ignore[arg-type]
    changed = {
        item.name: values[item.name]
        for item in fields(config)
        if item.name in own and values[item.name] != item.default
    }
    return kind(**changed | given)


@dataclass(frozen=True, kw_only=True)
class PixelLimit:
    """How large images may be."""

    max_pixels: int = MAX_PIXELS
    """Images with more pixels are refused before they are decoded."""


@dataclass(frozen=True, kw_only=True)
class ReadOptions(PixelLimit):
    """What is read of a sample."""

    caption_fields: tuple[str, ...] = ("caption", "captions")
    """Fields of a sample's .json member that hold captions (the .txt member always does)."""


@dataclass(frozen=True, kw_only=True)
class DeviceOption:
    """Where tensors are worked on."""

    device: str = "auto"
    """auto (a GPU where there is one), cpu, or a torch device such as cuda:0."""


@dataclass(frozen=True, kw_only=True)
class RecordOption:
    """Where the record of an output lies."""

    record: str | None = None
    """URL of the record: manifests, ledger, plan and log; `OUTPUT-record` when unset."""


@dataclass(frozen=True, kw_only=True)
class ExecutorOptions:
    """Where shards run."""

    executor: ExecutorName = "auto"
    """Where shards run: local (this process), ray, or auto (ray if RAY_ADDRESS or workers > 1)."""
    workers: int = 1
    """Ray actors, each with one shard running and one queued."""
    shard_timeout: float = 0.0
    """Seconds an attempt at a shard may take before its process is ended; 0 sets no limit."""


@dataclass(frozen=True, kw_only=True)
class RunOptions(ExecutorOptions, DeviceOption):
    """How a run is carried out; no published byte depends on it."""

    gpus_per_worker: Literal["auto"] | float = "auto"
    """GPUs of an actor, fractions allowed; auto is one where the cluster has any, else none."""
    max_attempts: int = 3
    """Attempts a shard gets when the process that works on it dies."""
    grace_seconds: float = 20.0
    """Seconds that shards in work have to end after a SIGTERM."""
    log_file: str | None = None
    """Local file to append the run's JSON lines to; `_log/<run>.jsonl` of the record when unset."""
    join: bool = False
    """Work beside another run of the same configuration on this output, instead of refusing."""
