"""How far a published image is from its original: largest change, norm, PSNR, SSIM.

Sums run over integers, so figures do not depend on the number of threads or on how an image is cut
into strips, and manifests stay equal byte for byte.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

_PEAK = 255
_WINDOW, _SIGMA = 11, 1.5
_C1, _C2 = (0.01 * _PEAK) ** 2, (0.03 * _PEAK) ** 2
# Few enough for a core's cache, many enough to outweigh the calls.
_STRIP_PIXELS = 1 << 16
_FIXED_POINT = 1 << 24


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
    side shorter than 11 pixels the window has that side's length. It is computed in float32 and
    differs from float64 by less than 1e-6 where no pixel changed by more than 16 levels.

    Raises:
        ValueError: shapes differ or are not [3, H, W], or the type is not uint8.
    """
    shape, other = list(reference.shape), list(published.shape)
    if shape != other or shape[:-2] != [3] or 0 in shape:
        raise ValueError(f"need two images [3, H, W] of one shape, not {shape} and {other}")
    if reference.dtype != torch.uint8 or published.dtype != torch.uint8:
        raise ValueError(f"need uint8 images, not {reference.dtype} and {published.dtype}")
    height, width = shape[1:]
    down, across = _weights(min(_WINDOW, height)), _weights(min(_WINDOW, width))
    rows, overlap = max(_STRIP_PIXELS // width, 1), len(down) - 1
    linf, squares, lost, windows = 0, 0, 0, 0
    grey = int(reference.sum(dtype=torch.int64)) * 2 // reference.numel()
    for top in range(0, height, rows):
        # The windows that start in this strip also need the first rows of the next one.
        part = slice(top, top + rows + overlap)
        before, after = reference[:, part].short(), published[:, part].short()
        change = after - before
        own = change[:, :rows].int()
        linf = max(linf, int(own.abs().max()))
        squares += int((own * own).sum(dtype=torch.int64))
        if change.shape[1] > overlap:
            local = _ssim_loss(change.float(), (before + after - grey).float(), grey, down, across)
            lost += int(local.mul_(_FIXED_POINT).round_().int().sum(dtype=torch.int64))
            windows += local.numel()
    psnr = 10 * math.log10(_PEAK**2 / (squares / reference.numel())) if squares else math.inf
    return ImageStats(linf, math.sqrt(squares), psnr, 1 - lost / windows / _FIXED_POINT)


def _ssim_loss(d: Tensor, s: Tensor, grey: int, down: Tensor, across: Tensor) -> Tensor:
    """Return 1 - SSIM at every window inside two images [3, H, W].

    With d = b - a and s = a + b SSIM is (1 - mean(d)^2 / (mean(a)^2 + mean(b)^2 + C1)) x
    (1 - var(d) / (var(a) + var(b) + C2)): no small difference of large numbers, hence float32.

    Args:
        d: difference of the images.
        s: their sum less ``grey``, the images' own: variances do not mind, rounding does.
        grey: what ``s`` lacks.
        down: weights of the window along a column.
        across: weights along a row.
    """
    maps = torch.cat([d, d * d, s, s * s])[None]
    # Each channel by itself: the backend is fastest where channels lie beside one another.
    maps = maps.contiguous(memory_format=torch.channels_last)
    count = maps.shape[1]
    for kernel in (across.view(1, 1, 1, -1), down.view(1, 1, -1, 1)):
        maps = F.conv2d(maps, kernel.repeat(count, 1, 1, 1), groups=count)
    mean_d, square_d, mean_s, square_s = maps[0].contiguous().split(3)
    bias = mean_d * mean_d
    blur = square_d.sub_(bias)
    contrast = square_s.addcmul_(mean_s, mean_s, value=-1).add_(2 * _C2)
    light = mean_s.add_(grey).square_().add_(2 * _C1)
    # 1 - (1 - 2 bias / (light + bias)) (1 - 2 blur / (contrast + blur)), as one fraction.
    loss: Tensor = (bias * contrast).addcmul_(blur, light).mul_(2)
    return loss.div_(light.add_(bias).mul_(contrast.add_(blur)))


def _weights(taps: int) -> Tensor:
    values = [math.exp(-(((tap - (taps - 1) / 2) / _SIGMA) ** 2) / 2) for tap in range(taps)]
    return torch.tensor([value / sum(values) for value in values])
