"""Batches protected against one surrogate, whose models are built once."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .config import MethodConfig
from .folding import fold
from .methods import get_method
from .microbatch import MicroBatch
from .precision import probes, set_precision
from .protected import ProtectedBatch, Samples
from .surrogate import Surrogate, check_surrogate

if TYPE_CHECKING:
    from open_clip import CLIP


class BatchProtector:
    """Protects batches against one surrogate; builds its models once.

    Attributes:
        config: the settings, settled.
        steps: PGD steps in each round of the surrogate.

    Args:
        surrogate: the fitted surrogate; None only for a method that needs none.
        config: settings of the method.
        device: torch device.

    Raises:
        UsageError: the method needs a surrogate, or settings are out of range.
    """

    def __init__(
        self, surrogate: Surrogate | None, config: MethodConfig, device: str = "cpu"
    ) -> None:
        config.validate()
        self.method = get_method(config.method)
        self.device = device
        self.memory = MicroBatch()
        self.surrogate: Surrogate | None = None
        self.models: list[CLIP] = []
        self.dtypes: list[torch.dtype] = []
        if self.method.needs_surrogate:
            self.surrogate = check_surrogate(surrogate, config.method)
            self.models = self.surrogate.models(device)
            for model in self.models:
                fold(model, probes(self.surrogate.spec, device)[0])
            self.dtypes = [
                set_precision(
                    model, self.surrogate.spec, device, config.precision, compiled=config.compile
                )
                for model in self.models
            ]
        self.config = settled(config, self.surrogate)
        self.steps = self.config.steps or 0

    def __call__(
        self,
        images: Sequence[Tensor],
        captions: Sequence[Sequence[str]],
        seed: int,
        measured: bool = True,
        earlier: dict[str, list[str]] | None = None,
    ) -> ProtectedBatch:
        """Protect one batch; `Samples` describes the arguments."""
        assert len(images) == len(captions)
        known = {} if earlier is None else earlier
        return self.method.protect(self, Samples(images, captions, seed, measured, known))


def settled(config: MethodConfig, surrogate: Surrogate | None) -> MethodConfig:
    """Return the settings that run: the method's own number of steps, a shuffle only where one is.

    Args:
        config: settings as they were asked for.
        surrogate: the fitted surrogate; None only for a method that needs none.
    """
    method = get_method(config.method)
    steps = config.steps
    if steps is None or not method.needs_surrogate:
        steps = method.steps(surrogate)
    shuffle = config.shuffle and steps > 0 and method.shuffles(config)
    return replace(config, steps=steps, shuffle=shuffle)


def protect_batch(
    surrogate: Surrogate | None,
    images: Sequence[Tensor],
    captions: Sequence[Sequence[str]],
    config: MethodConfig,
    seed: int,
    device: str = "cpu",
) -> ProtectedBatch:
    """Protect a single batch; see `BatchProtector` for many."""
    return BatchProtector(surrogate, config, device)(images, captions, seed)
