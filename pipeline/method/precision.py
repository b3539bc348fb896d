"""How a frozen surrogate runs on its device: in bfloat16 where that is safe, compiled if asked."""

import logging
from collections.abc import Callable
from copy import deepcopy
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import UsageError
from .config import Precision
from .models import ModelSpec

if TYPE_CHECKING:
    from open_clip import CLIP

log = logging.getLogger(__name__)

Tower = Callable[..., Tensor]

# Features in bfloat16 keep 8 bits; those of a sound model stay this close to float32.
_LEAST_COSINE = 0.99
_PROBES = 8


def set_precision(
    model: "CLIP", spec: ModelSpec, device: str, precision: Precision, *, compiled: bool
) -> torch.dtype:
    """Make the towers of ``model`` run in ``precision``; features stay float32.

    bfloat16 is tried on a few random images and texts first; where its features leave those of
    float32 the model stays as it was, with a warning.

    Args:
        model: frozen, in evaluation mode, on ``device``; changed in place.
        spec: its inputs.
        device: torch device.
        precision: ``auto`` is ``bf16`` on a GPU, else ``fp32``.
        compiled: compile both towers, replayed as CUDA graphs.

    Returns:
        The dtype that the towers compute in, which image inputs may have.

    Raises:
        UsageError: ``compiled`` without a GPU.
    """
    gpu = device.startswith("cuda")
    if compiled and not gpu:
        raise UsageError(f"compile needs a CUDA device, not {device}; leave it out")
    dtype = torch.float32
    if precision == "bf16" or (precision == "auto" and gpu):
        dtype = _try_bfloat16(model, spec, device)
    if compiled:
        _compile(model)
    return dtype


def _try_bfloat16(model: "CLIP", spec: ModelSpec, device: str) -> torch.dtype:
    towers: list[Tower] = [model.encode_image, model.encode_text]
    fast = deepcopy(model)
    _cast(fast)
    reduced = [_reduced(fast.encode_image), _reduced(fast.encode_text)]
    worst = min(
        _agreement(tower, quick, probe)
        for tower, quick, probe in zip(towers, reduced, probes(spec, device), strict=True)
    )
    if not worst >= _LEAST_COSINE:
        log.warning(
            "bfloat16 turns features of this surrogate away from float32 (cosine %.3f, at least "
            "%.2f wanted): it runs in float32",
            worst,
            _LEAST_COSINE,
        )
        return torch.float32
    _cast(model)
    model.encode_image, model.encode_text = map(_reduced, towers)
    return torch.bfloat16


def _cast(model: "CLIP") -> None:
    """Cast the weights to bfloat16, once instead of in every pass.

    The embedding of tokens stays in float32, because the trigger search scores words by it, and so
    does the temperature, because losses are sums of many terms.
    """
    kept = (model.token_embedding.weight, model.logit_scale)
    for value in (*model.parameters(), *model.buffers()):
        if value.is_floating_point() and not any(value is other for other in kept):
            value.data = value.data.to(torch.bfloat16)


def _reduced(tower: Tower) -> Tower:
    """Return a ``tower`` of bfloat16 weights with inputs of any type and features of float32."""

    def run(rows: Tensor, normalize: bool = False) -> Tensor:
        if rows.is_floating_point():
            rows = rows.to(torch.bfloat16)
        features = tower(rows).float()
        return F.normalize(features, dim=-1) if normalize else features

    return run


def probes(spec: ModelSpec, device: str) -> tuple[Tensor, Tensor]:
    """Return random images and texts [8, ...]."""
    generator = torch.Generator().manual_seed(0)
    side = spec.image_size
    images = torch.randn(_PROBES, 3, side, side, generator=generator)
    texts = torch.randint(1, 40_000, (_PROBES, spec.context_length), generator=generator)
    return images.to(device), texts.to(device)


def _agreement(tower: Tower, fast: Tower, probe: Tensor) -> float:
    """Return the least cosine between the features of both; NaN where one is not finite."""
    with torch.no_grad():
        return F.cosine_similarity(tower(probe).float(), fast(probe), dim=-1).min().item()


def _compile(model: "CLIP") -> None:
    # Only the towers' insides: what they return is normalised outside, into memory that the next
    # replay of the graph does not write to.
    model.visual = torch.compile(model.visual, mode="reduce-overhead", dynamic=False)
    model.transformer = torch.compile(model.transformer, mode="reduce-overhead", dynamic=False)
