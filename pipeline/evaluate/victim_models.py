"""Models that victims can be: CLIPs by name, and dual encoders of pretrained towers."""

from typing import Any

from ..method.models import ModelSpec, Tokenizer, build_model, get_tokenizer, model_spec
from . import towers


def spec_of(name: str, image_size: int | None, context_length: int | None) -> ModelSpec:
    """Describe the input of model ``name``, its own sizes filled in."""
    if name in towers.NAMES:
        return towers.spec_of(name, image_size, context_length)
    return model_spec(name, image_size=image_size, context_length=context_length)


def tokenizer_of(spec: ModelSpec) -> Tokenizer:
    """Return the tokenizer of a model: ``list[str] -> int64 [N, context_length]``."""
    if spec.name in towers.NAMES:
        return towers.tokenizer_of(spec)
    return get_tokenizer(spec.name, spec.context_length)


def build(spec: ModelSpec, seed: int) -> Any:
    """Build the model: ``encode_image``, ``encode_text`` and ``logit_scale``.

    A CLIP has random weights, towers their pretrained ones and random projections.
    """
    if spec.name in towers.NAMES:
        return towers.Towers(frozen=spec.name == towers.FROZEN, seed=seed)
    return build_model(
        spec.name, image_size=spec.image_size, context_length=spec.context_length, seed=seed
    )
