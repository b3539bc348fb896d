"""JPEG in an optimisation: kornia's differentiable codec (Reich et al. 2024), strip by strip."""

import io
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..errors import UsageError

# The codec holds some 700 bytes a pixel; its blocks end within 16 rows, so strips change nothing.
_STRIP_PIXELS, _STRIP_ROWS = 1 << 18, 16
# At this quality kornia takes quantisation tables as they are.
_UNSCALED = 50.0


def recompressed(pixels: Tensor, quality: Tensor) -> Tensor:
    """Return images as a JPEG with halved colour resolution, most encoders' default, gives them.

    Args:
        pixels: float [B, 3, H, W], levels of 0..255.
        quality: [B], 1..100.
    """
    codec = _kornia().enhance.jpeg_codec_differentiable
    levels = quality.to(pixels)
    return _by_strips(lambda strip: codec(strip / 255, levels) * 255, pixels)


def stored(pixels: Tensor, quality: int) -> Tensor:
    """Return images as a JPEG of full colour resolution (4:4:4) gives them.

    The library's codec halves the colour resolution; it is therefore given luma and chroma as grey
    images, each with the table that libjpeg uses for it.

    Args:
        pixels: float [B, 3, H, W], levels of 0..255.
        quality: 1..100.
    """
    kornia = _kornia()
    luma, chroma = (table.to(pixels) for table in _tables(quality))

    def codec(strip: Tensor) -> Tensor:
        planes = kornia.color.rgb_to_ycbcr(strip / 255).flatten(0, 1)[:, None].expand(-1, 3, -1, -1)
        tables = torch.stack([luma, chroma, chroma]).repeat(len(strip), 1, 1)
        unscaled = torch.full((len(planes),), _UNSCALED).to(pixels)
        found = kornia.enhance.jpeg_codec_differentiable(planes, unscaled, tables, tables)
        grey = found.mean(1).unflatten(0, (len(strip), 3))
        rgb: Tensor = kornia.color.ycbcr_to_rgb(grey)
        return rgb * 255

    return _by_strips(codec, pixels)


def _by_strips(codec: Callable[[Tensor], Tensor], pixels: Tensor) -> Tensor:
    """Run ``codec`` on strips of whole blocks and again on the way back, in bounded memory."""
    count, width = len(pixels), pixels.shape[-1]
    rows = max(1, _STRIP_PIXELS // (count * width * _STRIP_ROWS)) * _STRIP_ROWS
    strips = pixels.split(rows, dim=2)
    return torch.cat([checkpoint(codec, strip, use_reentrant=False) for strip in strips], dim=2)


@cache
def _tables(quality: int) -> tuple[Tensor, Tensor]:
    """Return libjpeg's luma and chroma table, float32 [8, 8] each."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "JPEG", quality=quality)
    with Image.open(buffer) as image:
        found: dict[int, list[int]] = image.quantization  # type: ignore[attr-defined]
    luma, chroma = (torch.tensor(np.reshape(found[i], (8, 8)), dtype=torch.float32) for i in (0, 1))
    return luma, chroma


def _kornia() -> Any:
    try:
        import kornia
        import kornia.color
        import kornia.enhance
    except ImportError as error:
        raise UsageError("gradients through JPEG need kornia: install unlearnable[jpeg]") from error
    return kornia
