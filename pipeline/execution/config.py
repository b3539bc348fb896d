"""What a run can be told: the dataclasses that the command line and ``--config`` files are made of.

Every field's docstring is the help text of its option; the fields before `KW_ONLY` are positional.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Literal

from ..method.config import PIXEL_BUDGET, Method, Part, Precision

ImageFormat = Literal["png", "webp", "jpeg", "same"]
ExecutorName = Literal["auto", "local", "ray"]
Schedule = Literal["default", "paper"]


@dataclass(frozen=True)
class ProtectConfig:
    """Protect every shard of a corpus against the frozen surrogate."""

    input: str
    """Shards to protect: an fsspec URL of a directory, a glob, a brace list or one shard."""
    output: str
    """URL of the directory that the protected copy is written to; never inside the input."""
    _: KW_ONLY
    surrogate: str | None = None
    """URL of the folder that `fit` wrote; every method but `random` needs one."""
    method: Method = "mem"
    """mem; a baseline that the surrogate was fitted for: em, tap, uap; or random noise."""
    trigger_words: int | None = None
    """Words put in front of each caption, 1 to 16; the surrogate's number, which it must equal."""
    epsilon: int = 8
    """Largest change of a pixel, in 8-bit levels, 1 to 64."""
    steps: int | None = None
    """Gradient steps against each replayed surrogate; the method's own number when unset."""
    effort: int | None = None
    """Passes a sample may cost, 2 to 64, the least when unset; none beside --topics surrogates."""
    shuffle: bool = True
    """Permute the captions inside the batch in each gradient step."""
    views: tuple[str, ...] = ()
    """Random views that gradient steps average over, with commas: crop, resize, flip, jpeg."""
    pixel_budget: int = PIXEL_BUDGET
    """Native pixels handled at once as floats; a batch holds at most about four times as many."""
    part: Part = "both"
    """What is published, for ablations of mem: both, the perturbed image or the trigger alone."""
    precision: Precision = "auto"
    """Precision of passes through the surrogate; auto is bf16 on a GPU, fp32 elsewhere."""
    compile: bool = False
    """Compile the surrogate, replayed as CUDA graphs: pays where gradient steps are taken."""
    batch_size: int = 128
    """Samples optimised together; part of what determines the output."""
    seed: int = 0
    """Seed of the run; with a shard's name and a batch's number it fixes every random choice."""
    image_format: ImageFormat = "png"
    """Format of published images; `same` keeps each one's own. A JPEG may exceed epsilon by 16."""
    caption_fields: tuple[str, ...] = ("caption", "captions")
    """Fields of a sample's .json member that hold captions (the .txt member always does)."""
    max_pixels: int = 64_000_000
    """Images with more pixels are quarantined before they are decoded."""
    executor: ExecutorName = "auto"
    """Where shards run: local (this process), ray, or auto (ray if RAY_ADDRESS or workers > 1)."""
    workers: int = 1
    """Ray actors, each with one shard running and one queued."""
    gpus_per_worker: Literal["auto"] | float = "auto"
    """GPUs of an actor, fractions allowed; auto is one where the cluster has any, else none."""
    device: str = "auto"
    """Where a worker optimises: cpu, cuda, or auto: cuda where there is one."""
    torch_threads: int = 1
    """Threads of a worker's tensor operations; fixed, because sums depend on it."""
    io_threads: int = 2
    """Threads of a worker that decode, encode and measure images."""
    max_attempts: int = 3
    """Attempts a shard gets when the process that works on it dies."""
    max_quarantined: float = 0.01
    """Share of quarantined samples above which the run ends with exit code 3."""
    shard_timeout: float = 0.0
    """Seconds an attempt at a shard may take before its process is ended; 0 sets no limit."""
    grace_seconds: float = 20.0
    """Seconds that shards in work have to end after a SIGTERM."""
    log_file: str | None = None
    """Local file to append the run's JSON lines to; `_log/<run>.jsonl` of the output when unset."""
    join: bool = False
    """Work beside another run of the same configuration on this output, instead of refusing."""
    slice: str | None = None
    """One task of an array: of N slices of the shards the I-th from 0 on, as I/N; joins others."""
    owner: str = ""
    """Who publishes the copy; printed in its card."""
    dry_run: bool = False
    """Estimate disk space, time and cost from a trial of a few batches; write nothing."""
    worker_price: float = 0.0
    """What a worker costs an hour, in any currency; the dry run multiplies by it."""


@dataclass(frozen=True)
class FitRunConfig:
    """Fit a surrogate on a bounded part of a corpus."""

    input: str
    """Shards to fit on: an fsspec URL of a directory, a glob, a brace list or one shard."""
    _: KW_ONLY
    output: str
    """URL of the folder that the surrogate artifact is written to."""
    model: str = "tiny"
    """tiny (64 px, for CPUs) or any open_clip model; several, with commas, take turns."""
    method: Literal["mem", "em", "tap", "uap"] = "mem"
    """mem, or a baseline: em (images alone), tap (towards other captions), uap (one for all)."""
    schedule: Schedule = "default"
    """default: perturbations start from their trigger's code; paper: the published alternation."""
    trigger_words: int = 7
    """Words put in front of each caption, 1 to 16."""
    vocabulary: int | None = None
    """Words that a trigger position may use; the default schedule's own number when unset."""
    coded_words: int | None = None
    """Leading trigger words that own a pattern in the image, 3 when unset; the rest are decoys."""
    decoys: int | None = None
    """Words that a decoy may be, the captions' most frequent; 64 when unset."""
    topics: bool | None = None
    """What captions say chooses the words that own a pattern, or chance; fit decides if unset."""
    texture: float | None = None
    """Share of a period in which a pattern's cast is inverted; fit tries 0 and 0.5 if unset."""
    views: tuple[str, ...] = ()
    """Random views that it is fitted on, with commas: crop, resize, flip, jpeg."""
    blocklist: tuple[str, ...] = ()
    """Words that no trigger may use."""
    words: str | None = None
    """URL of a text file of the only words that triggers may use; the captions' own when unset.
    Blank lines make lists of it, one for each place in the trigger, the last for all others."""
    word_floor: int | None = None
    """Captions that must use a word before a trigger may; 1 when unset. A list has no floor."""
    epsilon: int = 8
    """Largest change of a pixel, in 8-bit levels, 1 to 64."""
    image_size: int | None = None
    """Side of the surrogate's square input in pixels; the model's own when unset."""
    context_length: int | None = None
    """Tokens that the surrogate reads of a caption; the model's own when unset."""
    rounds: int | None = None
    """Rounds of the alternation; the schedule's own number when unset."""
    steps_per_round: int | None = None
    """Optimiser steps of the surrogate in a round; the schedule's own number when unset."""
    pgd_steps: int | None = None
    """Gradient steps on the perturbations a visit; the schedule's own number when unset."""
    hotflip_rounds: int | None = None
    """First rounds in which triggers are searched (paper schedule); a quarter of all when unset."""
    shuffle: bool = True
    """Permute the captions inside the batch in each gradient step (paper schedule)."""
    batch_size: int = 128
    """Samples a batch."""
    device: str = "auto"
    """Where to fit: cpu, cuda, or auto: cuda where there is one."""
    max_samples: int | None = None
    """Samples to fit on, chosen by hash; when unset 20,000, or all in the paper schedule."""
    seed: int = 0
    """Seed of the choice of samples and of the fit."""
    caption_fields: tuple[str, ...] = ("caption", "captions")
    """Fields of a sample's .json member that hold captions (the .txt member always does)."""
    max_pixels: int = 64_000_000
    """Images with more pixels are passed over."""
    torch_threads: int = 0
    """Threads of the tensor operations; 0 takes what the machine has."""
    keep: bool = False
    """Leave a surrogate that is there, fitted with these settings, as it is; a DAG needs that."""


@dataclass(frozen=True)
class PublishConfig:
    """Mark a verified copy as published."""

    output: str
    """URL of the directory that `protect` wrote and `verify` passed."""


@dataclass(frozen=True)
class StatusConfig:
    """Tell how far a run is, from its ledger alone."""

    output: str
    """URL of the directory that `protect` writes to."""
    _: KW_ONLY
    json: bool = False
    """Print JSON for machines."""


@dataclass(frozen=True)
class RetryConfig:
    """Run the shards again that a run gave up, as its plan says."""

    output: str
    """URL of the directory that `protect` writes to."""
    _: KW_ONLY
    shards: tuple[str, ...] = ()
    """Names of shards to make anew though they are committed, such as those that verify named."""
    surrogate: str | None = None
    """URL of the surrogate where it has moved since; it must be the same one."""
    executor: ExecutorName = "auto"
    """Where shards run: local (this process), ray, or auto (ray if RAY_ADDRESS or workers > 1)."""
    workers: int = 1
    """Ray actors, each with one shard running and one queued."""
    gpus_per_worker: Literal["auto"] | float = "auto"
    """GPUs of an actor, fractions allowed; auto is one where the cluster has any, else none."""
    device: str = "auto"
    """Where a worker optimises: cpu, cuda, or auto: cuda where there is one."""
    max_attempts: int = 3
    """Attempts a shard gets when the process that works on it dies."""
    shard_timeout: float = 0.0
    """Seconds an attempt at a shard may take before its process is ended; 0 sets no limit."""
    grace_seconds: float = 20.0
    """Seconds that shards in work have to end after a SIGTERM."""
    log_file: str | None = None
    """Local file to append the run's JSON lines to; `_log/<run>.jsonl` of the output when unset."""
    join: bool = False
    """Work beside another run of the same configuration on this output, instead of refusing."""


@dataclass(frozen=True)
class RestoreConfig:
    """Write the protected shards again with the triggers stripped from their captions."""

    output: str
    """URL of the directory that `protect` wrote."""
    destination: str
    """URL of the directory for the restored shards; never inside the output."""
