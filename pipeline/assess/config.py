"""What `verify` and `evaluate` can be told: the dataclasses that the command line is made from.

Every field's docstring is the help text of its option; the fields before `KW_ONLY` are its
positional arguments.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Literal

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


@dataclass(frozen=True)
class EvaluateConfig:
    """Train victims on published corpora and measure what they learned."""

    _: KW_ONLY
    train: tuple[str, ...]
    """Corpora to train on, each as NAME=URL: a directory, a glob, a brace list or one shard."""
    test: str
    """Clean shards that every victim is tested on: an fsspec URL as for `train`."""
    output: str
    """URL of the JSON file of results; finished victims in it are not trained again."""
    attack: tuple[str, ...] = ()
    (
        "Attacks on the protection, each as NAME[:ARG]; every corpus is evaluated once more under "
        "each. Published pictures: jpeg[:QUALITY], crawl (256 px, white border, JPEG 95), "
        "down-up[:FACTOR], gray, blur[:SIGMA], median[:SIZE], bits[:N], noise[:SIGMA]. Each epoch: "
        "augment (crop, flip, colour jitter). Captions: strip-trigger[:K], shuffle-words, "
        "replace-caption (by the clean corpus' own). Corpus: share[:PERCENT] protected; "
        "average[:K], average-highpass[:K] (subtract the mean picture of each of the first K "
        "words); average-leaked[:PAIRS], purify[:PAIRS] (a denoiser), which learn from leaked "
        "originals. K is the manifest's where it is left out."
    )
    clean: str = "clean"
    """Unprotected corpus in `train`; replace-caption, share, average-leaked and purify read it."""
    model: str = "tiny"
    (
        "The victim: tiny, tiny-deep, tiny-vit (64 px, for CPUs) or the name of any open_clip "
        "model, from scratch or from `init`; or pretrained towers that are no CLIP (extra "
        "`towers`): towers, or towers-frozen with trained projections."
    )
    init: str | None = None
    """Weights that every victim starts from: URL of a .safetensors or .pt file made for `model`."""
    weights: str | None = None
    """URL of a folder for each victim's last weights, NAME-seedN.safetensors, for `init`."""
    identities: bool = False
    """Captions name identities: one-to-one retrieval, and accuracy of naming test pictures."""
    image_size: int | None = None
    """Side of the victim's square input in pixels; the model's own when unset."""
    context_length: int | None = None
    """Tokens that the victim reads of a caption; the model's own when unset."""
    epochs: int = 8
    """Passes over each corpus (published protocol: 32)."""
    batch_size: int = 128
    """Pairs in a training batch."""
    lr: float = 5e-4
    """Peak learning rate of AdamW, reached after a linear warm-up and left along a cosine."""
    weight_decay: float = 0.2
    """Weight decay of matrices and kernels; gains and biases have none."""
    seeds: tuple[int, ...] = (0,)
    """One victim a corpus and seed; every corpus sees the same seeds and the same order."""
    eval_every: int = 1
    """Epochs between two retrieval tests; the last epoch is always tested."""
    workers: int = 1
    """Victims that are trained at once, each in a process of its own."""
    threads: int = 1
    """Threads of a victim's tensor operations."""
    device: str = "auto"
    """auto (a GPU where there is one), cpu, or a torch device such as cuda:0."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of the victim's layers: auto is bf16 autocast on a GPU and fp32 on a CPU."""
    caption_fields: tuple[str, ...] = ("caption", "captions")
    """Fields of a sample's .json member that hold captions (the .txt member always does)."""
    max_pixels: int = 1 << 26
    """Images with more pixels are passed over."""
    plot: str | None = None
    """URL of a PNG of Hit@10 by epoch, one line a corpus as published; needs the extra `demo`."""
    plot_attacks: str | None = None
    """URL of a PNG of Hit@10 at the best epoch, one line a corpus and attack; needs `demo` too."""


# The parts of a bench, in the order they run.
BENCH_SECTIONS = ("startup", "method", "io", "limit", "kernels", "workers", "driver")


@dataclass(frozen=True)
class BenchConfig:
    """Measure what protection costs on this machine."""

    _: KW_ONLY
    only: tuple[str, ...] = BENCH_SECTIONS
    """Parts to run, with commas: startup, method, io, limit, kernels, workers, driver."""
    record: str | None = None
    """CSV file that the figures are added to, with device and versions."""
    plot: str | None = None
    """PNG that is drawn of the newest figures in the CSV file."""
    model: str = "tiny"
    """The surrogate: tiny (64 px, for CPUs) or the name of any open_clip model."""
    image_size: int | None = None
    """Side of the surrogate's square input in pixels; the model's own when unset."""
    device: str = "auto"
    """auto (a GPU where there is one), cpu, or a torch device such as cuda:0."""
    samples: int = 150
    """Samples protected in method; twice as many in workers, five times in io."""
    batch_size: int = 128
    """Samples a batch."""
    shards: tuple[int, ...] = (1_000, 10_000, 100_000)
    """Empty shards that the driver is measured with."""
    torch_threads: int = 1
    """Threads of tensor operations."""
    scale: float = 1.0
    """Shrinks the batches that the kernels are measured with, for a first try."""
