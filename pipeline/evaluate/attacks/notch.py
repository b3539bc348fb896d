"""A notch filter where the copy's mean spectrum stands out from the fall of natural spectra.

The power of natural pictures falls with frequency along a straight line in logarithms (Field 1987).
What stands above it, in the mean over many pictures, is no content and is brought down to it.
"""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from .inputs import Inputs

_SIDE, _PICTURES = 128, 400
# How far above the line of natural spectra power has to stand.
_SLACK = 1.5
# Cycles a side below which everything is content.
_CONTENT = 5
# Luma, and blue and red without it: each has a spectrum of its own.
_AXES = np.array([[0.299, 0.587, 0.114], [-0.169, -0.331, 0.5], [0.5, -0.419, -0.081]])
_BACK = np.linalg.inv(_AXES)
_Array = npt.NDArray[np.float64]


def run(inputs: Inputs) -> Callable[[Image.Image, int], Image.Image]:
    """Measure the copy's mean spectrum; return the filter of one picture."""
    gains = _gains(_mean_power(inputs.published()))
    side = gains.shape[1]

    def cleaned(image: Image.Image, _seed: int) -> Image.Image:
        axes = np.asarray(image, dtype=np.float64) @ _AXES.T
        size = axes.shape[:2]
        # A frequency in cycles a shorter side is a bin of the mean spectrum.
        rows = (np.fft.fftfreq(size[0]) * min(size)).round().astype(int)[:, None]
        columns = (np.fft.rfftfreq(size[1]) * min(size)).round().astype(int)[None]
        known = (np.abs(rows) < side // 2) & (columns < side // 2)
        for axis, own in enumerate(gains):
            gain = np.where(known, own[rows % side, columns % (side // 2)], 1.0)
            axes[..., axis] = np.fft.irfft2(np.fft.rfft2(axes[..., axis]) * gain, s=size)
        return Image.fromarray((axes @ _BACK.T).round().clip(0, 255).astype(np.uint8))

    return cleaned


def _mean_power(pictures: Iterator[Image.Image]) -> _Array:
    """Return the mean power of each axis, float64 [3, S, S / 2 + 1], of middles of S pixels."""
    total: Any = 0.0
    side = 0
    for image in islice(pictures, _PICTURES):
        side = side or min(_SIDE, min(image.size) // 2 * 2)
        part = np.asarray(ImageOps.fit(image, (side, side)), dtype=np.float64) @ _AXES.T
        part = (part - part.mean((0, 1))).transpose(2, 0, 1)
        window = np.hanning(side)
        total = total + np.abs(np.fft.rfft2(part * window[:, None] * window)) ** 2
    return np.asarray(total)


def _gains(power: _Array) -> _Array:
    """Return what each frequency is multiplied by, float64 like ``power``, 1 for most."""
    side = power.shape[1]
    radius = np.hypot(np.fft.fftfreq(side, 1 / side)[:, None], np.arange(power.shape[2])[None])
    rings = np.arange(_CONTENT, side // 2)
    gains = np.ones_like(power)
    near = [np.roll(power, (y, x), (1, 2)) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    smooth = np.maximum(np.mean(near, axis=0), 1e-9)
    for own, gain in zip(smooth, gains, strict=True):
        heights = np.log([np.median(own[np.abs(radius - ring) < 0.5]) for ring in rings])
        kept = np.ones(len(rings), dtype=bool)
        for _ in range(5):
            slope, start = np.polyfit(np.log(rings[kept]), heights[kept], 1)
            above = heights - (start + slope * np.log(rings))
            kept = above <= np.quantile(above, 0.7)
        natural = np.exp(start + slope * np.log(radius.clip(min=1)))
        out = (own > _SLACK * natural) & (radius >= _CONTENT)
        gain[out] = np.sqrt(natural[out] / own[out])
    return gains
