"""What a method decides: the protocol of the files in this folder."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from ..protected import ProtectedBatch, Samples

if TYPE_CHECKING:
    from ..batch import Batch
    from ..config import MethodConfig
    from ..protector import BatchProtector
    from ..rounds import Rounds
    from ..surrogate import Surrogate


class Method(ABC):
    """One way to protect a batch.

    Attributes:
        needs_surrogate: whether `protect` needs what `fit` wrote.
        has_triggers: whether words are put in front of captions.
        has_design: whether there is a default schedule beside the published one.
        alternates: whether fit changes perturbations in turn with training; where it does not, it
            trains a clean checkpoint.
        published_rounds: rounds of a fit as the authors' code runs it.
        published_steps: PGD steps a visit there.
    """

    needs_surrogate: ClassVar[bool] = True
    has_triggers: ClassVar[bool] = False
    has_design: ClassVar[bool] = False
    alternates: ClassVar[bool] = True
    published_rounds: ClassVar[int] = 20
    published_steps: ClassVar[int] = 8

    def fitted(self, rounds: "Rounds") -> dict[str, Tensor]:
        """Return the tensors that `protect` needs beside the weights, by name."""
        return {}

    def published_name(self, config: "MethodConfig") -> str:
        """Return what a copy made with the settled settings ``config`` is called."""
        return config.method

    def steps(self, surrogate: "Surrogate | None") -> int:
        """Return the method's own number of PGD steps in each round of the surrogate."""
        return 0

    def shuffles(self, config: "MethodConfig") -> bool:
        """Whether steps see each picture beside the caption of another one."""
        return False

    @abstractmethod
    def protect(self, protector: "BatchProtector", samples: Samples) -> ProtectedBatch:
        """Protect one batch with the settings and models of ``protector``."""


class Replayed(Method):
    """A method that takes PGD steps in each round of a surrogate's sequence.

    Attributes:
        ascends: whether the steps raise the loss.
    """

    ascends: ClassVar[bool] = False

    def protect(self, protector: "BatchProtector", samples: Samples) -> ProtectedBatch:
        """Start a batch, replay the surrogate's sequence on it, measure what that changed."""
        from ..batch import Batch

        return Batch(protector, samples).run(self)

    def start(self, batch: "Batch") -> None:
        """Set the triggers and the perturbations that a batch starts from."""

    def steps(self, surrogate: "Surrogate | None") -> int:
        """Take as many as a visit of the fit took: an unseen sample gets what a seen one got."""
        return 0 if surrogate is None else surrogate.visit_steps

    def step_seed(self, batch: "Batch", round_index: int, step: int) -> int:
        """Return the seed that decides which captions a step sees, where they are shuffled."""
        raise NotImplementedError

    def bodies(self, batch: "Batch", seed: int | None) -> Tensor:
        """Return the captions that a step sees beside the images, int64 [B, L].

        Args:
            batch: at this step.
            seed: of the step; None where captions are not shuffled.
        """
        return batch.draw_bodies()

    def captions_stay(self, batch: "Batch") -> bool:
        """Whether every step sees each image beside the same caption."""
        return batch.captions.are_single
