"""MEM (Liu et al. 2024): perturbations and triggers that together minimise the contrastive loss."""

from torch import Tensor

from ..batch import Batch
from ..pgd import permutation
from .base import PAPER_STEPS, Replayed


class Mem(Replayed):
    """Shuffled captions, triggers found by HotFlip, or the patterns of designed triggers."""

    has_triggers = True
    has_design = True

    def start(self, batch: Batch) -> None:
        """Draw triggers; lay their patterns, where the surrogate has some, at full amplitude."""
        surrogate = batch.surrogate
        vocabulary, code = surrogate.vocabulary, surrogate.code
        if code is None:
            choice = vocabulary.draw(len(batch.digests), batch.generator)
        else:
            choice = code.draw_words(batch.digests, vocabulary.sizes)
            if surrogate.topics is not None:
                choice = surrogate.topics.choose(batch.captions.texts, choice)
            batch.lay(code, choice)
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
