"""The search of someone who reads this code: no key, no manifest, no clean picture.

The code tells what a pattern looks like: three square waves of about four cells over the whole
picture, each in one of a few axes of colour. Version 0.1 has 64 patterns in three regions: all are
tried. Later versions draw directions, periods and phases from a key: the waves that stand out most
are subtracted then. A key hides nothing that a spectrum shows.
"""

import math
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional

from ...method.strength import STRENGTHS
from ..pairs import Pixels
from .gratings import CELLS, Rect, Wave, reduced, strongest, subtract

# Cells, a little more than the strengths have.
_PERIODS = (3.6, 4.9)
# One of each trigger word.
_WAVES = 3
# Cells over which a wave's strength is measured.
_LOCAL = 3.0
_WHOLE = Rect(0, 0, 2, 2)
# One in ten clean photographs scores more.
_LEAST = 80.0
_CORNERS = torch.tensor([[1.0, 1, 1], [1, 1, -1], [1, -1, 1], [-1, 1, 1]])
_AXES = torch.tensor([axis for own in STRENGTHS.values() for axis in own.axes])
_COLOURS = _AXES / _AXES.abs().amax(1, keepdim=True)
# Of version 0.1: where its three regions lie, cells of a period.
_REGIONS = (Rect(0, 0, 1, 1), Rect(0, 1, 1, 1), Rect(1, 0, 1, 2))
_TILE = 4
# Share of the budget by which a picture must follow the patterns of version 0.1, on average.
_FOLLOWS = 0.5


def run(image: Image.Image, epsilon: float, _seed: int) -> Image.Image:
    """Return ``image`` without the patterns that its regions carry."""
    pixels = np.array(image)
    changes = _listed(pixels, epsilon) or _drawn(pixels, epsilon)
    return Image.fromarray(subtract(pixels, changes, epsilon))


@lru_cache(1)
def _tiles() -> Tensor:
    """Return the patterns of version 0.1, float32 [64, 3, 4, 4] of +-1."""
    row, column = torch.arange(_TILE)[:, None], torch.arange(_TILE)[None, :]
    directions = torch.broadcast_tensors(column, row, column + row, column - row)
    phases = torch.stack([(phase + shift) % _TILE for phase in directions for shift in (0, 1)])
    gratings = torch.where(phases < _TILE // 2, 1.0, -1.0)
    corners = torch.cat([_CORNERS, -_CORNERS])
    return (corners[:, None, :, None, None] * gratings[None, :, None]).flatten(0, 1)


def _listed(pixels: Pixels, epsilon: float) -> list[tuple[Rect, Tensor]]:
    """Return the patterns of version 0.1 that fit best, none where the picture follows none."""
    image = torch.from_numpy(pixels).permute(2, 0, 1).float()
    height, width = image.shape[-2:]
    cell = max(1.0, min(height, width) / CELLS)
    side = 2 * math.ceil(3 * cell) + 1
    fine = image - functional.gaussian_blur(image, [side, side], [1.5 * cell, 1.5 * cell])
    rows, columns = ((torch.arange(n) / cell).long() % _TILE for n in (height, width))
    places = rows[:, None] * _TILE + columns[None, :]
    found, follows = [], 0.0
    for rect in _REGIONS:
        region = rect.slices(height, width)
        own, place = fine[(slice(None), *region)].flatten(1), places[region]
        sums = torch.zeros(3, _TILE * _TILE).index_add_(1, place.flatten(), own)
        fits = _tiles().flatten(1) @ sums.flatten() / own.numel()
        best = int(fits.argmax())
        follows += float(fits[best]) / len(_REGIONS)
        found.append((rect, epsilon * _tiles()[best].flatten(1)[:, place]))
    return found if follows >= _FOLLOWS * epsilon else []


def _drawn(pixels: Pixels, epsilon: float) -> list[tuple[Rect, Tensor]]:
    """Return the square waves that stand out most, one after the other."""
    small = reduced(pixels)
    changes = []
    for _ in range(_WAVES):
        wave = strongest(small, _WHOLE, _PERIODS, square=True)
        if wave.score < _LEAST:
            break
        square, strength = _strength(small, wave, epsilon)
        small -= square * strength
        large = F.interpolate(strength[None, None], pixels.shape[:2], mode="bilinear")[0]
        colour, sign = _square(wave, pixels.shape[:2])
        changes.append((_WHOLE, colour[:, None, None] * sign * large))
    return changes


def _square(wave: Wave, size: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Return a wave's colour, float32 [3], its largest +-1, and its sign at each pixel [H, W]."""
    colour, amplitude = wave.along(_COLOURS)
    phase = math.atan2(amplitude.imag, amplitude.real)
    return colour, torch.cos(wave.angle(*size) + phase).sign()


def _strength(small: Tensor, wave: Wave, epsilon: float) -> tuple[Tensor, Tensor]:
    """Return a square wave [3, h, w] and how strong it is at each place, 8-bit levels [h, w].

    A pattern is faint on smooth ground, and shows there less.
    """
    colour, sign = _square(wave, small.shape[-2:])
    weights = wave.white.T @ (wave.white @ colour)
    weights = weights / (weights @ colour)
    reach = _LOCAL * min(small.shape[-2:]) / CELLS
    side = 2 * math.ceil(2 * reach) + 1
    fine = small - functional.gaussian_blur(small, [side, side], [reach, reach])
    here = torch.einsum("c,chw->hw", weights, fine) * sign
    local = functional.gaussian_blur(here[None], [side, side], [reach, reach])[0]
    return colour[:, None, None] * sign, local.clamp(0, epsilon)
