"""How far a published image is from its original: largest change, norm, PSNR, SSIM.

Plain torch, exact where it matters: sums run over integers, so the figures do not depend on the
number of threads or on how an image is cut into strips, and manifests stay equal byte for byte.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

_PEAK = 255
_WINDOW, _SIGMA = 11, 1.5
_C1, _C2 = (0.01 * _PEAK) ** 2, (0.03 * _PEAK) ** 2
_STRIP_PIXELS = 1 << 16
_FIXED_POINT = 1 << 32


class ImageStats(NamedTuple):
    """Distances between two images.

    ``linf`` and ``l2`` are in 8-bit levels over all pixels and channels, ``psnr`` in dB (inf for
    equal images), ``ssim`` in [-1, 1] (1 for equal images).
    """

    linf: int
    l2: float
    psnr: float
    ssim: float


def measure(reference: Tensor, published: Tensor) -> ImageStats:
    """Compare two uint8 images [3, H, W].

    SSIM is that of Wang et al. 2004: Gaussian window of 11x11, sigma 1.5, K1 = 0.01, K2 = 0.03,
    L = 255, averaged over the window positions inside the image and over the channels. Along a
    side shorter than 11 pixels the window has that side's length.

    Raises:
        ValueError: shapes differ or are not [3, H, W], or the type is not uint8.
    """
    shape, other = list(reference.shape), list(published.shape)
    if shape != other or shape[:-2] != [3] or not reference.numel():
        raise ValueError(f"need two images [3, H, W] of one shape, not {shape} and {other}")
    if reference.dtype != torch.uint8 or published.dtype != torch.uint8:
        raise ValueError(f"need uint8 images, not {reference.dtype} and {published.dtype}")
    height, width = reference.shape[1:]
    overlap = min(_WINDOW, height) - 1
    rows = max(_STRIP_PIXELS // width, 1)
    linf, squares, similarity, windows = 0, 0, 0, 0
    for top in range(0, height, rows):
        a, b = reference[:, top : top + rows].int(), published[:, top : top + rows].int()
        change = a - b
        linf = max(linf, int(change.abs().max()))
        squares += int(change.square().sum(dtype=torch.int64))
        # The windows that start in this strip also need the first rows of the next one.
        a, b = reference[:, top : top + rows + overlap], published[:, top : top + rows + overlap]
        if a.shape[1] > overlap:
            local = _ssim_map(a.double(), b.double(), overlap + 1)
            similarity += int((local * _FIXED_POINT).round().to(torch.int64).sum())
            windows += local.numel()
    mse = squares / reference.numel()
    psnr = 10 * math.log10(_PEAK**2 / mse) if squares else math.inf
    return ImageStats(linf, math.sqrt(squares), psnr, similarity / windows / _FIXED_POINT)


def measure_batch(reference: Tensor, published: Tensor) -> list[ImageStats]:
    """Compare two batches of uint8 images [B, 3, H, W] pair by pair; see :func:`measure`."""
    if reference.shape != published.shape:
        shapes = f"{list(reference.shape)} and {list(published.shape)}"
        raise ValueError(f"need batches of one shape, not {shapes}")
    return [measure(a, b) for a, b in zip(reference, published, strict=True)]


def _ssim_map(a: Tensor, b: Tensor, window_rows: int) -> Tensor:
    """SSIM at every window inside two float64 images [3, H, W]."""
    maps = torch.stack([a, b, a * a + b * b, a * b])
    for dim, taps in ((-2, window_rows), (-1, min(_WINDOW, a.shape[-1]))):
        maps = _blur(maps, dim, taps)
    mean_a, mean_b, square, product = maps.unbind()
    means, mean_squares = 2 * mean_a * mean_b, mean_a * mean_a + mean_b * mean_b
    luminance = (means + _C1) / (mean_squares + _C1)
    structure: Tensor = (2 * product - means + _C2) / (square - mean_squares + _C2)
    return luminance * structure


def _blur(maps: Tensor, dim: int, taps: int) -> Tensor:
    """Weighted mean of ``taps`` neighbours along ``dim``; only whole windows are kept."""
    weights = [math.exp(-(((tap - (taps - 1) / 2) / _SIGMA) ** 2) / 2) for tap in range(taps)]
    length = maps.shape[dim] - taps + 1
    # A convolution would leave the order of the sum to the backend; this order is fixed.
    total = maps.narrow(dim, 0, length).mul(weights[0] / sum(weights))
    for tap in range(1, taps):
        total.add_(maps.narrow(dim, tap, length), alpha=weights[tap] / sum(weights))
    return total
