"""TAP (Fowl et al. 2021): noise towards another sample's caption, against a clean checkpoint."""

from torch import Tensor

from ...seeds import derive_seed
from ..batch import Batch
from ..pgd import targets
from .base import Replayed


class TargetedPoison(Replayed):
    """Each image is pulled towards the first caption of one other sample of its batch."""

    alternates = False

    def steps(self, batch: Batch) -> int:
        """Return the published number of steps."""
        return 40

    def step_seeds(self, batch: Batch, round_index: int, count: int) -> list[int]:
        """Keep one target for all steps."""
        return [derive_seed(batch.seed, "targets")] * count

    def bodies(self, batch: Batch, seed: int) -> Tensor:
        """Return the targets' captions."""
        firsts = batch.first_bodies()
        return firsts[targets(len(firsts), seed)]

    def captions_stay(self, batch: Batch) -> bool:
        """Tell that targets never change."""
        return True


METHOD = TargetedPoison()
