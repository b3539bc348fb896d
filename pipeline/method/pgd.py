"""The image step of MEM: signed descent on the 8-bit grid under shuffled captions."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .microbatch import MicroBatch, by_input, encode
from .objective import info_nce
from .passes import Passes
from .pixels import PixelBatch

if TYPE_CHECKING:
    from open_clip import CLIP

# Of the published method, in 8-bit levels.
STEP_SIZE = 1


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
    model: "CLIP",
    pixels: PixelBatch,
    text: Tensor,
    epsilon: int,
    codes: Sequence[Tensor] | None,
    passes: Passes,
    memory: MicroBatch,
    *,
    ascend: bool = False,
) -> None:
    """Take one PGD step that pulls every image towards its own trigger (paper, eq. 3).

    Args:
        model: the surrogate, frozen.
        pixels: images and perturbations, changed in place.
        text: features [B, D] of each sample's trigger in front of the caption the shuffle gave it.
        epsilon: bound, 8-bit levels.
        codes: signs that perturbations must keep, one tensor for each image size, or None.
        passes: counts are added here.
        memory: how many samples' activations are kept at once.
        ascend: push it away instead.
    """
    seen, leaves = pixels.step_input()
    gradients = _gradients(model, seen, leaves, text, passes, memory)
    if ascend:
        gradients = [-gradient for gradient in gradients]
    pixels.step(gradients, STEP_SIZE, epsilon, codes)


def _gradients(
    model: "CLIP",
    seen: Tensor,
    leaves: Sequence[Tensor],
    text: Tensor,
    passes: Passes,
    memory: MicroBatch,
) -> Sequence[Tensor]:
    """Differentiate the batch's loss by the ``leaves`` that the model input ``seen`` is made of."""
    scale = model.logit_scale.exp()
    found = memory.gradient(
        by_input(model.encode_image), seen, lambda image: info_nce(image, text, scale).sum()
    )
    passes.add(Passes(image_forward=len(seen), image_backward=len(seen), again=found.again))
    gradient = found.gradient
    return [gradient] if leaves[0] is seen else torch.autograd.grad(seen, leaves, gradient)


def climb_universal(
    model: "CLIP",
    pixels: PixelBatch,
    delta: Tensor,
    tokens: Tensor,
    epsilon: int,
    passes: Passes,
    memory: MicroBatch,
) -> Tensor:
    """Take one signed step of a perturbation common to all images, up the loss.

    Moosavi-Dezfooli et al. 2017 search a single perturbation that misleads on most images; this is
    its gradient form.

    Args:
        model: a model trained on clean pairs, frozen.
        pixels: images of the model's size.
        delta: int8 [3, S, S], the perturbation so far.
        tokens: int64 [B, L], each image's own caption.
        epsilon: bound, 8-bit levels.
        passes: counts are added here.
        memory: how many samples' activations are kept at once.

    Returns:
        int8 [3, S, S], |delta| <= epsilon.
    """
    for group, images in enumerate(pixels.images):
        pixels.set_delta(group, delta.to(images.device).expand_as(images))
    seen, leaves = pixels.model_input()
    text = encode(model.encode_text, tokens)
    passes.text_forward += len(tokens)
    gradients = _gradients(model, seen, leaves, text, passes, memory)
    gradient = torch.stack([own.sum(0) for own in gradients]).sum(0).cpu()
    moved = delta.to(torch.int16) + STEP_SIZE * gradient.sign().to(torch.int16)
    return moved.clamp_(-epsilon, epsilon).to(torch.int8)
