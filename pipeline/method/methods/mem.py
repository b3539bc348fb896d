"""MEM (Liu et al. 2024): perturbations and triggers that together minimise the contrastive loss."""

from typing import TYPE_CHECKING

from torch import Tensor

from ...seeds import derive_seed
from ..batch import Batch
from ..pgd import permutation
from . import CODE
from .base import Replayed

if TYPE_CHECKING:
    from ..config import MethodConfig
    from ..surrogate import Surrogate


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
            choice = surrogate.choose_words(batch.digests, batch.texts_of_pictures())
            batch.lay(code, choice)
        batch.trigger = vocabulary.tokens(choice)

    def published_name(self, config: "MethodConfig") -> str:
        """Keep the name of MEM for copies that its steps have made."""
        return config.method if config.steps else CODE

    def steps(self, surrogate: "Surrogate | None") -> int:
        """Take none from a pattern at full amplitude: they could only wear it down."""
        coded = surrogate is not None and surrogate.code is not None
        return 0 if coded else super().steps(surrogate)

    def shuffles(self, config: "MethodConfig") -> bool:
        """Shuffle unless the settings say otherwise."""
        return config.shuffle

    def step_seed(self, batch: Batch, round_index: int, step: int) -> int:
        """Draw another order for every step."""
        return derive_seed(batch.seed, "shuffle", round_index, step)

    def bodies(self, batch: Batch, seed: int | None) -> Tensor:
        """Permute the captions inside the batch (paper, eq. 3)."""
        bodies = batch.draw_bodies()
        return bodies if seed is None else bodies[permutation(len(bodies), seed)]

    def captions_stay(self, batch: Batch) -> bool:
        """Whether neither the shuffle nor the draw among captions changes anything."""
        return not batch.config.shuffle and super().captions_stay(batch)


METHOD = Mem()
