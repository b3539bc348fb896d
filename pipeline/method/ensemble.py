"""The surrogates of a fit: one, or several architectures and seeds that take turns."""

from collections.abc import Iterator
from itertools import cycle
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..errors import UsageError
from ..seeds import derive_seed
from .config import FitConfig
from .models import ModelSpec, build_model, decay_groups, model_spec

if TYPE_CHECKING:
    from open_clip import CLIP

Weights = dict[str, Tensor]


def model_names(models: str) -> list[str]:
    """Split ``tiny,tiny-vit``; a name that stands there twice is trained from another seed."""
    return [name.strip() for name in models.split(",")]


def common_spec(
    models: str, *, image_size: int | None = None, context_length: int | None = None
) -> ModelSpec:
    """Return the input that all of ``models`` read, named after the first.

    Raises:
        UsageError: no architecture has one of the names, or they read inputs of other sizes.
    """
    specs = [
        model_spec(name, image_size=image_size, context_length=context_length)
        for name in model_names(models)
    ]
    for option in ("image_size", "context_length"):
        sizes = [getattr(spec, option) for spec in specs]
        if len(set(sizes)) > 1:
            read = ", ".join(f"{spec.name} {size}" for spec, size in zip(specs, sizes, strict=True))
            name = option.replace("_", "-")
            raise UsageError(f"the models differ in {name} ({read}); pass --{name} for all of them")
    return specs[0]


def fit_spec(config: FitConfig) -> ModelSpec:
    """Return the input that the models of a fit read.

    Raises:
        UsageError: as `common_spec`, or a trigger leaves no room for a caption.
    """
    spec = common_spec(
        config.model, image_size=config.image_size, context_length=config.context_length
    )
    config.check_context(spec.context_length)
    return spec


class SurrogateEnsemble:
    """Models with an optimizer each.

    Args:
        config: names, learning rate, device, seed.
        spec: the input that all of them read.
    """

    def __init__(self, config: FitConfig, spec: ModelSpec) -> None:
        self.names = model_names(config.model)
        self.models = [
            build_model(
                name,
                image_size=spec.image_size,
                context_length=spec.context_length,
                # The first model of a fit is the one that a fit with it alone would train.
                seed=derive_seed("surrogate", config.seed, place) if place else config.seed,
            ).to(device=config.device, memory_format=torch.channels_last)
            for place, name in enumerate(self.names)
        ]
        self._optimizers = [
            torch.optim.AdamW(
                decay_groups(model, config.weight_decay), lr=config.learning_rate, fused=True
            )
            for model in self.models
        ]

    def training(self) -> "list[tuple[CLIP, torch.optim.Optimizer]]":
        """Return every model, ready to be trained, with its optimizer."""
        for model in self.models:
            model.train().requires_grad_(True)
        return list(zip(self.models, self._optimizers, strict=True))

    def turns(self) -> "Iterator[CLIP]":
        """Yield the models, frozen, in turn and without end."""
        for model in self.models:
            model.eval().requires_grad_(False)
        return cycle(self.models)

    def weights(self) -> list[Weights]:
        """Return a copy of every model's weights on the CPU."""
        return [
            {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
            for model in self.models
        ]

    def state(self) -> dict[str, Any]:
        """Return what `restore` takes: tensors, numbers, lists and dicts of them."""
        return {
            "models": [model.state_dict() for model in self.models],
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a state."""
        for model, weights in zip(self.models, state["models"], strict=True):
            model.load_state_dict(weights)
        for optimizer, moments in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(moments)
