"""Gratings found in one picture: where its spectrum stands out, in which colour and at what phase.

A picture is searched at a shorter side of at most 128 pixels. Frequencies are in cycles and places
in shares of the shorter side, so that what was found holds at any size of the same picture.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..pairs import Pixels

# The protection's cells are 64ths of the shorter side.
CELLS = 64
_SIDE = 128
# Share of frequencies that may be peaks and do not count as a picture's own.
_PEAKS = 0.02
_FINE = torch.linspace(-0.75, 0.75, 7)


class Rect(NamedTuple):
    """A part of a picture, in halves of its sides."""

    top: int
    left: int
    height: int
    width: int

    def slices(self, height: int, width: int) -> tuple[slice, slice]:
        """Return rows and columns in a picture of that size."""
        rows = slice(self.top * height // 2, (self.top + self.height) * height // 2)
        return rows, slice(self.left * width // 2, (self.left + self.width) * width // 2)


QUARTERS = tuple(Rect(top, left, 1, 1) for top in (0, 1) for left in (0, 1))


@dataclass(frozen=True)
class Wave:
    """A grating in a part of a picture.

    Attributes:
        score: how far it stands out from the part's own spectrum; a few tens by chance.
        rows: cycles a shorter side, downwards.
        columns: the same to the right.
        colour: complex64 [3], amplitude of red, green and blue, 8-bit levels, and their phases at
            the picture's corner.
        white: float32 [3, 3], makes the colours of the part itself independent, of unit size.
    """

    rect: Rect
    score: float
    rows: float
    columns: float
    colour: Tensor
    white: Tensor

    def along(self, colours: Tensor) -> tuple[Tensor, complex]:
        """Return the one of ``colours``, float32 [n, 3], that explains most, and its amplitude."""
        own = colours @ self.white.T
        amplitudes = (
            own.to(self.colour.dtype) @ (self.white.to(self.colour.dtype) @ self.colour)
        ) / (own.square().sum(1))
        best = int((amplitudes.abs().square() * own.square().sum(1)).argmax())
        return colours[best], complex(amplitudes[best])

    def angle(self, height: int, width: int) -> Tensor:
        """Return what the phase gains from the corner to each pixel of its part, radians [h, w]."""
        short = min(height, width)
        places = [
            (torch.arange(part.start, part.stop) + 0.5) / short * (2 * math.pi)
            for part in self.rect.slices(height, width)
        ]
        return self.rows * places[0][:, None] + self.columns * places[1][None, :]


def reduced(pixels: Pixels) -> Tensor:
    """Return uint8 [H, W, 3] as float32 [3, h, w] with a shorter side of at most 128."""
    image = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1).float()
    scale = _SIDE / min(image.shape[-2:])
    if scale >= 1:
        return image
    size = [round(side * scale) for side in image.shape[-2:]]
    small: Tensor = F.interpolate(image[None], size, mode="bilinear", antialias=True)[0]
    return small


def strongest(
    image: Tensor, rect: Rect, periods: tuple[float, float], *, square: bool = False
) -> Wave:
    """Return the wave that stands out most in a part of a picture.

    Colours are weighed by the part's own covariance, which finds a faint hue beside strong luma.

    Args:
        image: float32 [3, h, w].
        rect: the part.
        periods: shortest and longest, cells.
        square: a square wave is looked for, which has power at three times its frequency too.
    """
    short = min(image.shape[-2:])
    rows, columns = rect.slices(*image.shape[-2:])
    part = image[:, rows, columns]
    plan = _plan(
        part.shape[-2], part.shape[-1], CELLS / short / periods[1], CELLS / short / periods[0]
    )
    part = part - (part * plan.window).sum((1, 2), keepdim=True) / plan.window.sum()
    part = part * plan.window
    score, white = _scores(torch.fft.rfft2(part).flatten(1), plan)
    found = score[plan.band]
    if square:
        wide = F.max_pool2d(score.view(1, 1, part.shape[-2], -1), 3, 1, 1).flatten()
        found = found + torch.where(plan.third >= 0, wide[plan.third.clamp(min=0)], 0.0)
    best = int(found.argmax())
    at = plan.band[best]
    clear = torch.einsum("ij,jhw->ihw", white, part)
    y, x = _refined(clear, float(plan.rows[at]), float(plan.columns[at]))
    turn = 2 * math.pi * ((rows.start + 0.5) * y + (columns.start + 0.5) * x)
    colour = _sums(part, torch.tensor([y]), torch.tensor([x]))[:, 0, 0]
    colour = colour * 2 / plan.window.sum() * complex(math.cos(turn), -math.sin(turn))
    return Wave(rect, float(found[best]), y * short, x * short, colour, white)


@dataclass(frozen=True)
class _Plan:
    """Index tables of one size: frequencies in cycles a pixel, flat indices into a spectrum."""

    rows: Tensor
    columns: Tensor
    radius: Tensor
    around: Tensor
    band: Tensor
    third: Tensor
    window: Tensor


@lru_cache(32)
def _plan(height: int, width: int, low: float, high: float) -> _Plan:
    half = width // 2 + 1
    rows = torch.fft.fftfreq(height)[:, None].expand(height, half).flatten()
    columns = torch.fft.rfftfreq(width)[None, :].expand(height, half).flatten()
    radius = torch.hypot(rows, columns)
    band = torch.nonzero((radius >= low) & (radius <= high))[:, 0]
    around = torch.nonzero((radius >= low / 1.5) & (radius <= 0.5))[:, 0]
    y, x = ((3 * f[band] * n).round().long() for f, n in ((rows, height), (columns, width)))
    inside = (x < half) & (y.abs() < height // 2)
    third = torch.where(inside, y % height * half + x, -1)
    window = (
        torch.hann_window(height + 2, periodic=False)[1:-1, None]
        * torch.hann_window(width + 2, periodic=False)[1:-1]
    )
    return _Plan(rows, columns, radius, around, band, third, window)


def _scores(spectrum: Tensor, plan: _Plan) -> tuple[Tensor, Tensor]:
    """Weigh a spectrum, complex [3, K], by the fall of its power and its colours' covariance."""
    near = spectrum[:, plan.around]
    scale, power = plan.radius[plan.around].log(), (near.abs() ** 2).sum(0).clamp(min=1e-3).log()
    off = scale - scale.mean()
    slope = (off * (power - power.mean())).mean() / (off * off).mean()
    fall = (power.mean() + slope * (plan.radius.clamp(min=1e-3).log() - scale.mean())) / 2
    level = spectrum / fall.exp()
    own = plan.around
    for _ in range(2):
        kept = level[:, own]
        covariance = (kept @ kept.conj().T).real / kept.shape[1]
        covariance = covariance + 1e-4 * (covariance.trace() + 1e-6) * torch.eye(3)
        white = torch.linalg.inv(torch.linalg.cholesky(covariance))
        score = ((white.to(level.dtype) @ level).abs() ** 2).sum(0)
        limit = score[plan.around].kthvalue(max(1, round(len(plan.around) * (1 - _PEAKS))))[0]
        own = plan.around[score[plan.around] <= limit]
    return score, white


def _refined(part: Tensor, y: float, x: float) -> tuple[float, float]:
    """Find a frequency to a small part of a bin."""
    for zoom in (1.0, 0.25):
        ys, xs = y + zoom * _FINE / part.shape[-2], x + zoom * _FINE / part.shape[-1]
        best = int(_sums(part, ys, xs).abs().square().sum(0).argmax())
        y, x = float(ys[best // len(_FINE)]), float(xs[best % len(_FINE)])
    return y, x


def _sums(part: Tensor, ys: Tensor, xs: Tensor) -> Tensor:
    """Return the transform of float [C, h, w] at given frequencies, complex [C, n, m]."""
    down = torch.exp(-2j * math.pi * ys[:, None] * torch.arange(part.shape[-2]))
    right = torch.exp(-2j * math.pi * xs[:, None] * torch.arange(part.shape[-1]))
    found: Tensor = down @ (part.to(down.dtype) @ right.T)
    return found


def subtract(pixels: Pixels, changes: Iterable[tuple[Rect, Tensor]], epsilon: float) -> Pixels:
    """Take changes, float [3, h, w] each, off their parts of a picture, at most ``epsilon``."""
    image = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)
    total = torch.zeros(image.shape)
    for rect, change in changes:
        total[(slice(None), *rect.slices(*image.shape[-2:]))] += change
    cleaned = (image - total.clamp(-epsilon, epsilon)).round().clamp(0, 255).to(torch.uint8)
    return np.ascontiguousarray(cleaned.permute(1, 2, 0).numpy())
