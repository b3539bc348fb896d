"""The image step of MEM: signed descent on the 8-bit grid under shuffled captions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .config import MemConfig
from .objective import info_nce
from .passes import Passes
from .pixels import PixelBatch

if TYPE_CHECKING:
    from open_clip import CLIP


def permutation(count: int, seed: int) -> Tensor:
    """Return the caption permutation that ``seed`` stands for, int64 [count]."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))


def descend(
    model: CLIP,
    pixels: PixelBatch,
    tokens: Tensor,
    config: MemConfig,
    codes: Sequence[Tensor] | None,
    passes: Passes,
) -> None:
    """Take one PGD step that pulls every image towards its own trigger (paper, eq. 3).

    Args:
        model: the surrogate, frozen.
        pixels: images and perturbations, changed in place.
        tokens: int64 [B, L], each sample's trigger in front of the caption the shuffle gave it.
        config: step size and bound.
        codes: signs that perturbations must keep, one tensor for each image size, or None.
        passes: counts are added here.
    """
    with torch.no_grad():
        text = model.encode_text(tokens, normalize=True)
    seen, leaves = pixels.model_input()
    image = model.encode_image(seen, normalize=True)
    loss = info_nce(image, text, model.logit_scale.exp()).sum()
    pixels.step(torch.autograd.grad(loss, leaves), config.step_size, config.epsilon, codes)
    passes.image_forward += len(tokens)
    passes.image_backward += len(tokens)
    passes.text_forward += len(tokens)
