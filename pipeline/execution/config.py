"""What a run can be told: the dataclasses that the command line and ``--config`` files are made of.

Every field's docstring is the help text of its option. Positional arguments are the fields of a
base that comes last, because the fields of the last base come first.
"""

# No postponed annotations: they would be looked up in the module of whoever inherits.
from dataclasses import dataclass
from typing import Literal

from ..data.statements import Statements
from ..method.config import FitOptions, MethodConfig
from .options import DeviceOption, LossChoice, ReadOptions, RecordOption, RunOptions

ImageFormat = Literal["png", "webp", "jpeg", "same"]


@dataclass(frozen=True)
class InputOutput:
    """What is protected, and where the copy goes."""

    input: str
    """Shards to protect: an fsspec URL of a directory, a glob, a brace list or one shard."""
    output: str
    """URL of the directory that the protected copy is written to; never inside the input."""


@dataclass(frozen=True)
class _Output:
    output: str
    """URL of the directory that `protect` writes to."""


@dataclass(frozen=True, kw_only=True)
class Request(Statements):
    """What no picture and no caption depends on and a retry takes over from the run."""

    max_quarantined: float = 0.01
    """Share of quarantined samples above which the run ends with exit code 3."""
    io_threads: int = 0
    """Threads of a worker that decode, encode and measure images; 0 takes a worker's share of the
    cores: 2 on Ray, all of this machine's otherwise, 16 at most."""


@dataclass(frozen=True, kw_only=True)
class RunConfig(RunOptions, Request, RecordOption, _Output):
    """A run over the shards of a plan."""

    slice: str | None = None
    """One task of an array: of N slices of the shards the I-th from 0 on, as I/N; joins others."""


@dataclass(frozen=True, kw_only=True)
class ProtectConfig(MethodConfig, ReadOptions, RunConfig, InputOutput):
    """Protect every shard of a corpus against the frozen surrogate."""

    surrogate: str | None = None
    """URL of the folder that `fit` wrote; every method but `random` needs one."""
    trigger_words: int | None = None
    """Words put in front of each caption, 1 to 16; the surrogate's number, which it must equal."""
    batch_size: int = 128
    """Samples optimised together; part of what determines the output."""
    seed: int = 0
    """Seed of the run; with a shard's name and a batch's number it fixes every random choice."""
    image_format: ImageFormat = "same"
    """Format of published images; `same` keeps each one's own. A JPEG may exceed epsilon by 24."""
    images: Literal["one", "all"] = "one"
    """Pictures of a sample: one, and samples with more are quarantined, or all, each protected."""
    drop_location: bool = False
    """Take GPS, places and what names the device out of the pictures' metadata."""
    reserve: bool = False
    """State in every picture, in tdmrep.json and in the card that data mining is prohibited, and
    state the licence in every picture that has none of its own."""
    torch_threads: int = 1
    """Threads of a worker's tensor operations; fixed, because sums depend on it."""
    again: bool = False
    """Go on where the input is a protected copy already."""
    losses: LossChoice = "sample"
    """Batches whose losses the manifest holds: sample (one in 32), all or none. Only reports need
    them."""
    dry_run: bool = False
    """Estimate disk space, time and cost from a trial of a few batches; write nothing."""
    worker_price: float = 0.0
    """What a worker costs an hour, in any currency; the dry run multiplies by it."""


@dataclass(frozen=True)
class _Input:
    input: str
    """Shards to fit on: an fsspec URL of a directory, a glob, a brace list or one shard."""


@dataclass(frozen=True, kw_only=True)
class FitSamples:
    """What a surrogate is fitted on, and its words."""

    words: str | None = None
    """URL of a text file of the only words that triggers may use; a shipped list when unset.
    Blank lines make lists of it, one for each place in the trigger, the last for all others.
    `tokenizer` allows any frequent word, as published (paper schedule)."""
    key: str | None = None
    """URL of a file of 64 hexadecimal digits that the patterns are drawn from; keep it secret.
    Drawn anew when unset; the artifact holds it."""
    max_samples: int | None = None
    """Samples to fit on, chosen by hash; when unset 20,000, or all in the paper schedule."""


@dataclass(frozen=True, kw_only=True)
class FitRunConfig(FitOptions, FitSamples, DeviceOption, ReadOptions, _Input):
    """Fit a surrogate on a bounded part of a corpus."""

    output: str
    """URL of the folder that the surrogate artifact is written to."""
    torch_threads: int = 0
    """Threads of the tensor operations; 0 takes what the machine has, 4 at most."""
    again: bool = False
    """Go on where the input is a protected copy already."""
    keep: bool = False
    """Leave a surrogate that is there, fitted with these settings, as it is; a DAG needs that."""
    overwrite: bool = False
    """Replace a surrogate that is there. The copies that it protected need it."""


@dataclass(frozen=True)
class _Verified:
    output: str
    """URL of the directory that `protect` wrote and `verify` passed."""
    destination: str | None = None
    """Where the copy is uploaded to: hf://datasets/OWNER/NAME, or any URL that can be written."""


@dataclass(frozen=True, kw_only=True)
class PublishConfig(RecordOption, _Verified):
    """Mark a verified copy as published, and upload it."""

    private: bool = False
    """Make a new repository of the Hub private."""


@dataclass(frozen=True, kw_only=True)
class StatusConfig(RecordOption, _Output):
    """Tell how far a run is, from its ledger alone."""

    shard: str | None = None
    """Tell of this shard alone: outcome, reason, traceback, attempts, node."""
    json: bool = False
    """Print JSON for machines."""
    watch: bool = False
    """Wait for the end of the runs at work; a terminal is redrawn until then, a pipe is quiet."""


@dataclass(frozen=True, kw_only=True)
class RetryConfig(RunOptions, RecordOption, _Output):
    """Run the shards again that a run gave up, as its plan says."""

    shards: tuple[str, ...] = ()
    """Names of shards to make anew though they are committed, such as those that verify named."""
    surrogate: str | None = None
    """URL of the surrogate where it has moved since; it must be the same one."""


@dataclass(frozen=True)
class _OutputDestination:
    output: str
    """URL of the directory that `protect` wrote."""
    destination: str
    """URL of the directory for the restored shards; never inside the output."""


@dataclass(frozen=True, kw_only=True)
class RestoreConfig(RecordOption, _OutputDestination):
    """Write the protected shards again with the triggers stripped from their captions."""
