"""MEM (Liu et al. 2024): perturbations and triggers that together minimise the contrastive loss."""

from torch import Tensor

from ..batch import Batch
from ..pgd import permutation
from ..topics import draw_words
from .base import PAPER_STEPS, Replayed


class Mem(Replayed):
    """Shuffled captions, triggers found by HotFlip, or the patterns of designed triggers."""

    has_triggers = True
    has_design = True

    def start(self, batch: Batch) -> None:
        """Draw triggers; lay their patterns, where the surrogate has some, at full amplitude."""
        surrogate = batch.surrogate
        vocabulary = surrogate.vocabulary
        choice = draw_words(vocabulary, surrogate.topics, batch.captions.texts, batch.generator)
        if surrogate.code is not None:
            batch.lay(surrogate.code, choice)
        batch.trigger = vocabulary.tokens(choice)

    def steps(self, batch: Batch) -> int:
        """Take none from a pattern at full amplitude: they could only wear it down."""
        return PAPER_STEPS if batch.codes is None else 0

    def bodies(self, batch: Batch, seed: int) -> Tensor:
        """Permute the captions inside the batch (paper, eq. 3)."""
        bodies = batch.draw_bodies()
        return bodies[permutation(len(bodies), seed)] if batch.config.shuffle else bodies

    def captions_stay(self, batch: Batch) -> bool:
        """Whether neither the shuffle nor the draw among captions changes anything."""
        return not batch.config.shuffle and super().captions_stay(batch)


METHOD = Mem()
