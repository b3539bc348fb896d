"""Random noise of +-epsilon: the control of every measurement."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...seeds import derive_seed
from ..protected import ProtectedBatch
from .base import Method

if TYPE_CHECKING:
    from ..protector import BatchProtector


class RandomNoise(Method):
    """A fair coin decides the sign of each value's change."""

    needs_surrogate = False
    alternates = False

    def protect(
        self,
        protector: "BatchProtector",
        images: Sequence[Tensor],
        captions: Sequence[Sequence[str]],
        seed: int,
        lossy: Sequence[bool],
    ) -> ProtectedBatch:
        """Draw the noise of each image from the batch's seed and its place."""
        deltas, epsilon = [], protector.config.epsilon
        for index, image in enumerate(images):
            generator = torch.Generator().manual_seed(derive_seed(seed, "noise", index))
            noise = torch.randint(0, 2, image.shape, generator=generator) * (2 * epsilon) - epsilon
            levels = image.to(torch.int16)
            deltas.append(((levels + noise).clamp_(0, 255) - levels).to(torch.int8))
        blank = [float("nan")] * len(images)
        return ProtectedBatch(deltas, [[] for _ in images], [""] * len(images), blank, list(blank))


METHOD = RandomNoise()
