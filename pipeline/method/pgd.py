"""The image step of MEM: signed descent on the 8-bit grid under shuffled captions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .config import FitConfig, MemConfig
from .objective import info_nce
from .passes import Passes
from .pixels import PixelBatch

if TYPE_CHECKING:
    from open_clip import CLIP


def permutation(count: int, seed: int) -> Tensor:
    """Return the caption permutation that ``seed`` stands for, int64 [count]."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))


def targets(count: int, seed: int) -> Tensor:
    """Return for each sample another one, int64 [count]: a single cycle through all of them."""
    order = permutation(count, seed)
    result = torch.empty_like(order)
    result[order] = order.roll(-1)
    return result


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
    seen, leaves = pixels.step_input()
    image = model.encode_image(seen, normalize=True)
    loss = info_nce(image, text, model.logit_scale.exp()).sum()
    pixels.step(torch.autograd.grad(loss, leaves), config.step_size, config.epsilon, codes)
    passes.image_forward += len(tokens)
    passes.image_backward += len(tokens)
    passes.text_forward += len(tokens)


def climb_universal(
    model: CLIP,
    pixels: PixelBatch,
    delta: Tensor,
    tokens: Tensor,
    config: FitConfig,
    passes: Passes,
) -> Tensor:
    """Take one signed step of a perturbation common to all images, up the loss.

    Moosavi-Dezfooli et al. 2017 search a single perturbation that misleads on most images; this is
    its gradient form.

    Args:
        model: a model trained on clean pairs, frozen.
        pixels: images of the model's size.
        delta: int8 [3, S, S], the perturbation so far.
        tokens: int64 [B, L], each image's own caption.
        config: step size and bound.
        passes: counts are added here.

    Returns:
        int8 [3, S, S], |delta| <= epsilon.
    """
    for group, images in enumerate(pixels.images):
        pixels.set_delta(group, delta.to(images.device).expand_as(images))
    with torch.no_grad():
        text = model.encode_text(tokens, normalize=True)
    seen, leaves = pixels.model_input()
    image = model.encode_image(seen, normalize=True)
    loss = info_nce(image, text, model.logit_scale.exp()).sum()
    slope = torch.stack([g.sum(0) for g in torch.autograd.grad(loss, leaves)]).sum(0).cpu()
    passes.image_forward += len(tokens)
    passes.image_backward += len(tokens)
    passes.text_forward += len(tokens)
    moved = delta.to(torch.int16) + config.step_size * slope.sign().to(torch.int16)
    return moved.clamp_(-config.epsilon, config.epsilon).to(torch.int8)
