"""Options of `evaluate`: every field's docstring is the help text of its option."""

from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

from ..execution.options import DeviceOption, ReadOptions
from ..method.config import Precision
from .attacks.catalogue import help_text


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(DeviceOption, ReadOptions):
    """Train victims on published corpora and measure what they learned."""

    train: tuple[str, ...]
    """Corpora to train on, each as NAME=URL: a directory, a glob, a brace list or one shard."""
    test: str
    """Clean shards that every victim is tested on: an fsspec URL as for `train`."""
    output: str
    """URL of the JSON file of results; finished victims in it are not trained again."""
    attack: Annotated[
        tuple[str, ...],
        Parameter(
            help="Attacks on the protection, each as NAME[:ARG], or several in turn as A+B; every "
            f"corpus is evaluated once more under each. {help_text()} K is the manifest's where it "
            "is left out."
        ),
    ] = ()
    clean: str = "clean"
    """Unprotected corpus in `train`; replace-caption, share, average-leaked and purify read it."""
    own: str | None = None
    """URL of an attacker's own clean pictures, which tool trains on; those of `test` when unset."""
    captions: int | None = None
    """Captions of an image that victims train on, the first ones; all when unset."""
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
    precision: Precision = "auto"
    """Arithmetic of the victim's layers: auto is bf16 autocast on a GPU and fp32 on a CPU."""
    plot: str | None = None
    """URL of a PNG of Hit@10 by epoch, one line a corpus as published; needs the extra `demo`."""
    plot_attacks: str | None = None
    """URL of a PNG of Hit@10 at the best epoch, one line a corpus and attack; needs `demo` too."""
