"""Random noise of +-epsilon: the control of every measurement."""

from typing import TYPE_CHECKING

import torch

from ...seeds import derive_seed
from ..protected import ProtectedBatch, Samples
from .base import Method

if TYPE_CHECKING:
    from ..protector import BatchProtector


class RandomNoise(Method):
    """A fair coin decides the sign of each value's change."""

    needs_surrogate = False
    alternates = False

    def protect(self, protector: "BatchProtector", samples: Samples) -> ProtectedBatch:
        """Draw the noise of each image from the batch's seed and its place."""
        deltas, epsilon = [], protector.config.epsilon
        for index, image in enumerate(samples.images):
            generator = torch.Generator().manual_seed(derive_seed(samples.seed, "noise", index))
            noise = torch.randint(0, 2, image.shape, generator=generator) * (2 * epsilon) - epsilon
            levels = image.to(torch.int16)
            deltas.append(((levels + noise).clamp_(0, 255) - levels).to(torch.int8))
        blank = [float("nan")] * len(deltas)
        return ProtectedBatch(deltas, [[] for _ in deltas], [""] * len(deltas), blank, list(blank))


METHOD = RandomNoise()
