"""TAP (Fowl et al. 2021): noise towards another sample's caption, against a clean checkpoint."""

from typing import TYPE_CHECKING

from torch import Tensor

from ...seeds import derive_seed
from ..batch import Batch
from ..pgd import targets
from .base import Replayed

if TYPE_CHECKING:
    from ..config import MethodConfig
    from ..surrogate import Surrogate


class TargetedPoison(Replayed):
    """Each image is pulled towards the first caption of one other sample of its batch."""

    alternates = False

    def steps(self, surrogate: "Surrogate | None") -> int:
        """Return the number of steps towards a target."""
        return 40

    def shuffles(self, config: "MethodConfig") -> bool:
        """Tell that targets are other samples' captions."""
        return True

    def step_seed(self, batch: Batch, round_index: int, step: int) -> int:
        """Keep one target for all steps."""
        return derive_seed(batch.seed, "targets")

    def bodies(self, batch: Batch, seed: int | None) -> Tensor:
        """Return the targets' captions."""
        firsts = batch.first_bodies()
        assert seed is not None
        return firsts[targets(len(firsts), seed)]

    def captions_stay(self, batch: Batch) -> bool:
        """Tell that targets never change."""
        return True


METHOD = TargetedPoison()
