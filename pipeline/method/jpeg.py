"""JPEG in an optimisation: kornia's differentiable codec (Reich et al. 2024)."""

from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..errors import UsageError

# The codec holds some 700 bytes a pixel. Images are taken a few at a time, and larger ones in
# strips of whole blocks, where it interpolates colours a little differently.
_PART_PIXELS, _PART_ROWS = 1 << 18, 16


def recompressed(pixels: Tensor, quality: Tensor) -> Tensor:
    """Return images as a JPEG with halved colour resolution, most encoders' default, gives them.

    Args:
        pixels: float [B, 3, H, W], levels of 0..255.
        quality: [B], 1..100.
    """
    codec = _kornia().enhance.jpeg_codec_differentiable
    height, width = pixels.shape[-2:]
    each = max(1, _PART_PIXELS // (height * width))
    rows = max(1, _PART_PIXELS // (width * _PART_ROWS)) * _PART_ROWS

    def part(strip: Tensor, own: Tensor) -> Tensor:
        found: Tensor = codec(strip / 255, own) * 255
        return found

    whole = []
    for images, own in zip(pixels.split(each), quality.to(pixels).split(each), strict=True):
        strips = images.split(rows, dim=2)
        # Computed again on the way back.
        parts = [checkpoint(part, strip, own, use_reentrant=False) for strip in strips]
        whole.append(torch.cat(parts, dim=2))
    return torch.cat(whole)


def _kornia() -> Any:
    try:
        import kornia
        import kornia.enhance
    except ImportError as error:
        raise UsageError("gradients through JPEG need kornia: install unlearnable[jpeg]") from error
    return kornia
