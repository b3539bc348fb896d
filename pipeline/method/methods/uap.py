"""UAP (Moosavi-Dezfooli et al. 2017): one perturbation for all images."""

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from ..batch import Batch
from ..pgd import climb_universal
from ..pixels import PixelBatch
from .base import Replayed

if TYPE_CHECKING:
    from ..rounds import Rounds
    from ..surrogate import Surrogate

_DELTA = "universal"


class Universal(Replayed):
    """Fit climbs the loss of a clean checkpoint with one perturbation; protect lays it."""

    alternates = False

    def fitted(self, rounds: "Rounds") -> dict[str, Tensor]:
        """Climb the loss of the clean checkpoints with one perturbation for all batches.

        Returns:
            int8 [3, S, S].
        """
        config, images, turns = rounds.config, rounds.images, rounds.ensemble.turns()
        delta = torch.zeros_like(images[0], dtype=torch.int8)
        count = min(config.batch_size, len(images))
        for _ in range(config.round_steps):
            index = torch.randperm(len(images), generator=rounds.generator)[:count]
            pixels = PixelBatch(list(images[index]), rounds.spec, config.device)
            tokens = rounds.tokens(index, index)
            delta = climb_universal(
                next(turns), pixels, delta, tokens, config.epsilon, rounds.passes, rounds.memory
            )
        return {_DELTA: delta}

    def start(self, batch: Batch) -> None:
        """Stretch the one perturbation over images of any size, without new levels."""
        source, bound = batch.surrogate.fitted[_DELTA].float()[None], batch.config.epsilon
        for group, images in enumerate(batch.pixels.images):
            delta = F.interpolate(source, size=images.shape[-2:], mode="nearest").to(torch.int8)
            delta = delta.clamp(-bound, bound).to(images.device)
            batch.pixels.set_delta(group, delta.expand_as(images))

    def steps(self, surrogate: "Surrogate | None") -> int:
        """Take none: the perturbation is found in fit."""
        return 0


METHOD = Universal()
