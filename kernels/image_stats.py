"""How far a published image is from its original: largest change, norm, PSNR, SSIM.

Exact where it matters: sums run over integers, so the figures of plain torch do not depend on the
number of threads or on how an image is cut into strips, and manifests stay equal byte for byte.
"""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from .backend import LazyKernel, dot_precision, on_gpu

if TYPE_CHECKING:
    import triton.language as tl  # noqa: TC004  (LazyKernel imports it where a kernel runs)

_PEAK = 255
_WINDOW, _SIGMA = 11, 1.5
_C1, _C2 = (0.01 * _PEAK) ** 2, (0.03 * _PEAK) ** 2
_STRIP_PIXELS = 1 << 16
_FIXED_POINT = 1 << 32
_TILE = 64
_CORE = _TILE - _WINDOW + 1


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

    On a GPU ``linf``, ``l2`` and ``psnr`` are the same bit for bit; ``ssim``, there from float32,
    differs by less than 1e-4 for any pair, and by less than 1e-6 where no pixel changed by more
    than 16 levels.

    Raises:
        ValueError: shapes differ or are not [3, H, W], or the type is not uint8.
    """
    _check(reference, published, batched=False)
    if on_gpu(reference):
        return _launch(reference[None], published[None])[0]
    return measure_reference(reference, published)


def measure_batch(reference: Tensor, published: Tensor) -> list[ImageStats]:
    """Compare two batches of uint8 images [B, 3, H, W] pair by pair; see :func:`measure`.

    On a GPU one pass over all pairs, and one synchronisation.
    """
    _check(reference, published, batched=True)
    if on_gpu(reference):
        return _launch(reference, published)
    return [measure_reference(a, b) for a, b in zip(reference, published, strict=True)]


def measure_reference(reference: Tensor, published: Tensor) -> ImageStats:
    """`measure` in plain torch, SSIM in float64."""
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
    return _stats(linf, squares, reference.numel(), similarity / windows / _FIXED_POINT)


def _check(reference: Tensor, published: Tensor, *, batched: bool) -> None:
    shape, other = list(reference.shape), list(published.shape)
    one = shape[1:] if batched else shape
    if shape != other or one[:-2] != [3] or 0 in one:
        what = "batches [B, 3, H, W]" if batched else "images [3, H, W]"
        raise ValueError(f"need two {what} of one shape, not {shape} and {other}")
    if reference.dtype != torch.uint8 or published.dtype != torch.uint8:
        raise ValueError(f"need uint8 images, not {reference.dtype} and {published.dtype}")


def _stats(linf: int, squares: int, values: int, ssim: float) -> ImageStats:
    psnr = 10 * math.log10(_PEAK**2 / (squares / values)) if squares else math.inf
    return ImageStats(linf, math.sqrt(squares), psnr, ssim)


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
    weights = _weights(taps)
    length = maps.shape[dim] - taps + 1
    # A convolution would leave the order of the sum to the backend; this order is fixed.
    total = maps.narrow(dim, 0, length).mul(weights[0])
    for tap in range(1, taps):
        total.add_(maps.narrow(dim, tap, length), alpha=weights[tap])
    return total


def _weights(taps: int) -> list[float]:
    values = [math.exp(-(((tap - (taps - 1) / 2) / _SIGMA) ** 2) / 2) for tap in range(taps)]
    return [value / sum(values) for value in values]


@cache
def _band(taps: int, device: torch.device) -> Tensor:
    """Window weights as a matrix: row i of its product with a tile is the mean from row i on."""
    band = torch.zeros(_TILE, _TILE)
    for tap, weight in enumerate(_weights(taps)):
        band.diagonal(tap).fill_(weight)
    return band.to(device)


def _launch(reference: Tensor, published: Tensor) -> list[ImageStats]:
    """Measure batches; each program leaves its tile's figures, which are summed exactly."""
    batch, channels, height, width = reference.shape
    if not batch:
        return []
    if reference.stride() != published.stride():
        reference, published = reference.contiguous(), published.contiguous()
    down, across = min(_WINDOW, height), min(_WINDOW, width)
    tiles_x = -(-width // _CORE)
    tiles = -(-height // _CORE) * tiles_x
    shape, device = (batch, tiles * channels), reference.device
    linf, squares = (torch.empty(shape, dtype=torch.int32, device=device) for _ in range(2))
    loss = torch.empty(shape, dtype=torch.float32, device=device)
    _STATS.launch(
        (batch * tiles * channels,), reference, published, _band(down, device),
        _band(across, device), linf, squares, loss, height, width, *reference.stride(),
        down=down, across=across, tiles_x=tiles_x, tiles=tiles, c1=_C1, c2=_C2,
        tile=_TILE, core=_CORE, precision=dot_precision(), num_warps=4,
    )  # fmt: skip
    sums = (linf.amax(1).double(), squares.sum(1).double(), loss.sum(1, dtype=torch.float64))
    windows = channels * (height - down + 1) * (width - across + 1)
    return [
        _stats(int(largest), int(square), channels * height * width, 1 - lost / windows)
        for largest, square, lost in torch.stack(sums, 1).tolist()
    ]


def _stats_kernel(  # type: ignore[no-untyped-def]
    reference,
    published,
    band_down,
    band_across,
    linf,
    squares,
    loss,
    height,
    width,
    image_stride,
    channel_stride,
    row_stride,
    column_stride,
    down,
    across,
    tiles_x,
    tiles,
    c1,
    c2,
    tile: tl.constexpr,
    core: tl.constexpr,
    precision: tl.constexpr,
) -> None:
    """Each program measures ``core`` x ``core`` pixels of a channel, and the windows from there.

    With s = a + b and d = b - a SSIM is (1 - mean(d)^2 / (mean(a)^2 + mean(b)^2 + C1)) x
    (1 - var(d) / (var(a) + var(b) + C2)): no small difference of large numbers, hence float32.
    """
    channel = tl.program_id(0) % 3
    place = (tl.program_id(0) // 3) % tiles
    image = (tl.program_id(0) // (3 * tiles)).to(tl.int64)
    side = tl.arange(0, tile)
    row, column = (place // tiles_x) * core + side, (place % tiles_x) * core + side
    inside = (row < height)[:, None] & (column < width)[None, :]
    offset = image * image_stride + channel * channel_stride
    offset = offset + row[:, None].to(tl.int64) * row_stride + column[None, :] * column_stride
    a = tl.load(reference + offset, mask=inside, other=0).to(tl.int32)
    b = tl.load(published + offset, mask=inside, other=0).to(tl.int32)
    own = (side < core)[:, None] & (side < core)[None, :]
    change = b - a
    mine = tl.where(own, change, 0)
    tl.store(linf + tl.program_id(0), tl.max(tl.max(tl.abs(mine), axis=1), axis=0))
    tl.store(squares + tl.program_id(0), tl.sum(tl.sum(mine * mine, axis=1), axis=0))

    weights = side[:, None] * tile + side[None, :]
    left, right = tl.load(band_down + weights), tl.trans(tl.load(band_across + weights))
    d = change.to(tl.float32)
    s = (a + b - 255).to(tl.float32)  # around zero: variances do not mind, rounding does
    mean_d = tl.dot(tl.dot(left, d, input_precision=precision), right, input_precision=precision)
    var_d = tl.dot(left, d * d, input_precision=precision)
    var_d = tl.dot(var_d, right, input_precision=precision) - mean_d * mean_d
    mean_s = tl.dot(tl.dot(left, s, input_precision=precision), right, input_precision=precision)
    var_s = tl.dot(left, s * s, input_precision=precision)
    var_s = tl.dot(var_s, right, input_precision=precision) - mean_s * mean_s
    var_d, var_s = tl.maximum(var_d, 0.0), tl.maximum(var_s, 0.0)
    mean_s += 255
    bias = 2 * mean_d * mean_d / (mean_s * mean_s + mean_d * mean_d + 2 * c1)
    blur = 2 * var_d / (var_s + var_d + 2 * c2)
    whole = own & (row + down <= height)[:, None] & (column + across <= width)[None, :]
    lost = tl.where(whole, bias + blur - bias * blur, 0.0)
    tl.store(loss + tl.program_id(0), tl.sum(tl.sum(lost, axis=1), axis=0))


_STATS = LazyKernel(_stats_kernel)
