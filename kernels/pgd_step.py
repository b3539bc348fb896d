"""One step of projected gradient descent on the 8-bit grid."""

from __future__ import annotations

import torch
from torch import Tensor


def normalise_pixels(
    pixels: Tensor, mean: tuple[float, float, float], std: tuple[float, float, float]
) -> Tensor:
    """Map 0..255 levels ``[B, 3, H, W]`` to the model's normalised float32 input."""
    scale = 255.0 * torch.tensor(std, dtype=torch.float32, device=pixels.device).view(1, 3, 1, 1)
    shift = 255.0 * torch.tensor(mean, dtype=torch.float32, device=pixels.device).view(1, 3, 1, 1)
    return (pixels.float() - shift) / scale


def pgd_step(image: Tensor, delta: Tensor, gradient: Tensor, step: int, epsilon: int) -> Tensor:
    """Move ``delta`` one signed step down the gradient and project it.

    Args:
        image: uint8 ``[B, 3, H, W]``.
        delta: int8 of the same shape; ``image + delta`` lies in 0..255.
        gradient: of the loss with respect to the pixels, any float dtype, same shape.
        step: step size in 8-bit levels.
        epsilon: bound on ``|delta|`` in 8-bit levels, at most 127.

    Returns:
        New int8 perturbation with ``|delta| <= epsilon`` and ``image + delta`` in 0..255
        (Madry et al. 2018, eq. 2; here every iterate is a real 8-bit image).
    """
    moved = delta.to(torch.int16) - step * gradient.sign().to(torch.int16)
    bounded = moved.clamp_(-epsilon, epsilon)
    levels = image.to(torch.int16)
    return torch.minimum(torch.maximum(bounded, -levels), 255 - levels).to(torch.int8)
