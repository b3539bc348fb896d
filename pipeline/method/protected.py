"""A batch as a method gets it, and what the method found for it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from .passes import Passes


@dataclass(frozen=True)
class Samples:
    """The samples of a batch.

    Attributes:
        images: uint8 [3, H, W] each, any sizes.
        captions: one or more captions of each image, without trigger.
        seed: everything random derives from it.
        measured: whether losses are computed, which nothing but reports needs.
        earlier: captions by which topics chose the words of a picture, by its digest; batches of
            one shard share them, so that equal pictures get equal words.
    """

    images: Sequence[Tensor]
    captions: Sequence[Sequence[str]]
    seed: int
    measured: bool = True
    earlier: dict[str, list[str]] = field(default_factory=dict)


@dataclass
class ProtectedBatch:
    """What `protect_batch` found, sample by sample in the order given.

    Attributes:
        delta: int8 [3, H, W] each; image + delta lies in 0..255.
        trigger_ids: k token ids each; empty for methods without triggers.
        trigger_text: the words, separated by one space.
        loss_before: objective of the sample as it came, clean image and bare caption;
            NaN where it was not measured.
        loss_after: objective of the sample as it is published, likewise.
        shuffle_seeds: seed of the caption permutation of each PGD step, common to the batch.
        passes: what it cost.
    """

    delta: list[Tensor]
    trigger_ids: list[list[int]]
    trigger_text: list[str]
    loss_before: list[float]
    loss_after: list[float]
    shuffle_seeds: list[int] = field(default_factory=list)
    passes: Passes = field(default_factory=Passes)
