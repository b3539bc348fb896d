"""What a method decides: the protocol of the files in this folder."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from ...seeds import derive_seed
from ..protected import ProtectedBatch, Samples

if TYPE_CHECKING:
    from ..batch import Batch
    from ..protector import BatchProtector
    from ..rounds import Rounds

PAPER_STEPS = 8


class Method(ABC):
    """One way to protect a batch.

    Attributes:
        needs_surrogate: whether `protect` needs what `fit` wrote.
        has_triggers: whether words are put in front of captions.
        has_design: whether there is a default schedule beside the published one.
        alternates: whether fit changes perturbations in turn with training; where it does not, it
            trains a clean checkpoint.
    """

    needs_surrogate: ClassVar[bool] = True
    has_triggers: ClassVar[bool] = False
    has_design: ClassVar[bool] = False
    alternates: ClassVar[bool] = True

    def fitted(self, rounds: "Rounds") -> dict[str, Tensor]:
        """Return the tensors that `protect` needs beside the weights, by name."""
        return rounds.perturbations() if self.alternates and rounds.config.published else {}

    @abstractmethod
    def protect(self, protector: "BatchProtector", samples: Samples) -> ProtectedBatch:
        """Protect one batch with the settings and models of ``protector``."""


class Replayed(Method):
    """A method that takes PGD steps against each surrogate of a sequence."""

    def protect(self, protector: "BatchProtector", samples: Samples) -> ProtectedBatch:
        """Start a batch, replay the surrogate's sequence on it, measure what that changed."""
        from ..batch import Batch

        return Batch(protector, samples).run(self)

    def start(self, batch: "Batch") -> None:
        """Set the triggers and the perturbations that a batch starts from."""

    def steps(self, batch: "Batch") -> int:
        """Return the method's own number of PGD steps against each surrogate."""
        return PAPER_STEPS

    def step_seeds(self, batch: "Batch", round_index: int, count: int) -> list[int]:
        """Return the seeds that decide which captions the steps of a round see."""
        return [derive_seed(batch.seed, "shuffle", round_index, step) for step in range(count)]

    def bodies(self, batch: "Batch", seed: int) -> Tensor:
        """Return the captions that a step sees beside the images, int64 [B, L]."""
        return batch.draw_bodies()

    def captions_stay(self, batch: "Batch") -> bool:
        """Whether every step sees each image beside the same caption."""
        return batch.captions.are_single
