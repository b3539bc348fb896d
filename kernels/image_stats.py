"""How far a published image is from its original: largest change, norm, PSNR, SSIM.

Sums are exact whole numbers, so figures do not depend on how an image is cut into strips, and
manifests stay equal byte for byte.
"""

import math
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .backend import opencv

_PEAK = 255
_WINDOW, _SIGMA = 11, 1.5
_C1, _C2 = (0.01 * _PEAK) ** 2, (0.03 * _PEAK) ** 2
# Few enough for a core's cache, many enough to outweigh the calls.
_STRIP_PIXELS = 1 << 16
_FIXED_POINT = 1 << 24

_Floats = npt.NDArray[np.float32]


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
    cv2 = opencv()
    before, after = reference.numpy(), published.numpy()
    height, width = shape[1:]
    down, across = _weights(min(_WINDOW, height)), _weights(min(_WINDOW, width))
    rows, overlap = max(_STRIP_PIXELS // width, 1), len(down) - 1
    grey = 2 * int(sum(cv2.sumElems(plane)[0] for plane in before)) // before.size
    squares, lost = 0, 0
    for a, b in zip(before, after, strict=True):
        squares += round(cv2.norm(a, b, cv2.NORM_L2SQR))
        for top in range(0, height - overlap, rows):
            # The windows that start in this strip also need the first rows of the next one.
            part = slice(top, top + rows + overlap)
            lost += _ssim_loss(a[part], b[part], grey, down, across)
    windows = 3 * (height - overlap) * (width - len(across) + 1)
    psnr = 10 * math.log10(_PEAK**2 / (squares / before.size)) if squares else math.inf
    linf = largest_change(reference, published)
    return ImageStats(linf, math.sqrt(squares), psnr, 1 - lost / windows / _FIXED_POINT)


def largest_change(reference: Tensor, published: Tensor) -> int:
    """Return `ImageStats.linf` of two uint8 images of one shape, which takes next to no time."""
    cv2 = opencv()
    pairs = zip(reference.numpy(), published.numpy(), strict=True)
    return max(int(cv2.norm(a, b, cv2.NORM_INF)) for a, b in pairs)


def _ssim_loss(
    before: npt.NDArray[np.uint8],
    after: npt.NDArray[np.uint8],
    grey: int,
    down: _Floats,
    across: _Floats,
) -> int:
    """Return the sum of 1 - SSIM, of `_FIXED_POINT`, over every window inside two planes [H, W].

    With d = b - a and s = a + b SSIM is (1 - mean(d)^2 / (mean(a)^2 + mean(b)^2 + C1)) x
    (1 - var(d) / (var(a) + var(b) + C2)): no small difference of large numbers, hence float32.

    Args:
        before: a plane of the original.
        after: the same of the published image.
        grey: what is taken from their sum: variances do not mind, rounding does.
        down: weights of the window along a column.
        across: weights along a row.
    """
    cv2 = opencv()
    height, width = before.shape
    a, b = before.astype(np.float32), after.astype(np.float32)
    maps = np.empty((4, height, width), np.float32)
    np.subtract(b, a, out=maps[0])
    np.add(a, b, out=maps[2])
    maps[2] -= np.float32(grey)
    np.square(maps[::2], out=maps[1::2])
    # The maps lie above one another; sums that reach into the next one are left out below.
    cv2.sepFilter2D(maps.reshape(-1, width), cv2.CV_32F, across, down, dst=maps.reshape(-1, width))
    mean_d, blur, mean_s, contrast = maps
    bias = np.square(mean_d, out=a)
    blur -= bias
    contrast -= np.square(mean_s, out=b)
    contrast += np.float32(2 * _C2)
    mean_s += np.float32(grey)
    light = np.square(mean_s, out=mean_s)
    light += np.float32(2 * _C1)
    # 1 - (1 - 2 bias / (light + bias)) (1 - 2 blur / (contrast + blur)), as one fraction.
    loss = np.multiply(bias, contrast, out=mean_d)
    loss += np.multiply(blur, light, out=b)
    light += bias
    contrast += blur
    loss /= np.multiply(light, contrast, out=light)
    loss *= np.float32(2 * _FIXED_POINT)
    top, left = len(down) // 2, len(across) // 2
    whole = np.rint(loss, out=loss)[top : top + height - len(down) + 1]
    return int(cv2.sumElems(whole[:, left : left + width - len(across) + 1])[0])


@cache
def _weights(taps: int) -> _Floats:
    values = [math.exp(-(((tap - (taps - 1) / 2) / _SIGMA) ** 2) / 2) for tap in range(taps)]
    return np.array([value / sum(values) for value in values], np.float32)
