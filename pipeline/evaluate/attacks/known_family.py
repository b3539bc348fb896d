"""The search of someone who reads this code: no key, no manifest, no clean picture.

The code tells what a pattern looks like: square waves of a few cells, one region for each trigger
word, the same colour all over a region. Version 0.1 has 64 patterns at known places: all are tried.
Later versions draw them from a key. Every way to divide a picture among three words is tried then,
and the strongest waves of each region are subtracted: a key hides nothing that a spectrum shows.
"""

import math
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional

from ...method.perceptual import bound_map
from ..pairs import Pixels
from .gratings import CELLS, QUARTERS, Rect, Wave, reduced, strongest, subtract
from .own_copies import STRENGTH

# Cells: those of version 0.1 are 2.8 to 4 long, those that a key draws up to 8.
_PERIODS = (2.5, 8.5)
_HALVES = (Rect(0, 0, 1, 2), Rect(1, 0, 1, 2), Rect(0, 0, 2, 1), Rect(0, 1, 2, 1))
# One of colour and one of brightness.
_WAVES = 2
# Cells over which a wave's strength is measured; how far a border may lie from the middle.
_LOCAL, _LOOSE = 3.0, 0.1
_WHOLE = Rect(0, 0, 2, 2)
# One in ten regions of clean photographs scores more.
_LEAST = 80.0
_TURNS = torch.linspace(0, math.pi, 25)[:-1, None]
_HUES = _TURNS.cos() * torch.tensor([0, -0.344, 1.772])
_HUES = _HUES + _TURNS.sin() * torch.tensor([1.402, -0.714, 0])
# Four corners of the colour cube stand for their opposites too; hues are free of luma.
_CORNERS = torch.tensor([[1.0, 1, 1], [1, 1, -1], [1, -1, 1], [-1, 1, 1]])
_COLOURS = torch.cat([_CORNERS, _HUES / _HUES.abs().amax(1, keepdim=True)])
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
    """Return the square waves of the division whose waves stand out most."""
    small = reduced(pixels)
    waves = _regions(small)
    changes = []
    for turn in range(_WAVES):
        for wave in (one for one in waves if one.score >= _LEAST):
            sign, strength = _strength(small, wave, epsilon)
            small -= sign * strength
            large = F.interpolate(strength[None, None], pixels.shape[:2], mode="bilinear")[0]
            changes.append((_WHOLE, _square(wave, pixels.shape[:2]) * large))
        if turn < _WAVES - 1:
            waves = [strongest(small, one.rect, _PERIODS, square=True) for one in waves]
    return changes


def _regions(small: Tensor) -> list[Wave]:
    """Return each region's strongest wave, for the division whose waves stand out most."""
    found = {rect: strongest(small, rect, _PERIODS, square=True) for rect in QUARTERS + _HALVES}

    def waves(half: Rect) -> list[Wave]:
        own = {
            (y, x) for y in range(2)[half.slices(2, 2)[0]] for x in range(2)[half.slices(2, 2)[1]]
        }
        return [found[half], *(found[q] for q in QUARTERS if (q.top, q.left) not in own)]

    return max(map(waves, _HALVES), key=lambda three: sum(wave.score for wave in three))


def _square(wave: Wave, size: tuple[int, ...]) -> Tensor:
    """Return a wave as a square one all over a picture, float32 [3, H, W]; its largest is 1."""
    colour, amplitude = wave.along(_COLOURS)
    phase = math.atan2(amplitude.imag, amplitude.real)
    return colour[:, None, None] * torch.cos(wave.angle(*size, whole=True) + phase).sign()


def _strength(small: Tensor, wave: Wave, epsilon: float) -> tuple[Tensor, Tensor]:
    """Return a square wave and how strong it is at each place, 8-bit levels [h, w].

    Borders between regions are loose, and a pattern is faint on smooth ground: both show here.
    """
    square = _square(wave, small.shape[-2:])
    colour = wave.along(_COLOURS)[0]
    weights = wave.white.T @ (wave.white @ colour)
    weights = weights / (weights @ colour)
    reach = _LOCAL * min(small.shape[-2:]) / CELLS
    side = 2 * math.ceil(2 * reach) + 1
    fine = small - functional.gaussian_blur(small, [side, side], [reach, reach])
    signs = square[0].sign() * colour[0].sign()
    here = torch.einsum("c,chw->hw", weights, fine) * signs
    local = functional.gaussian_blur(here[None], [side, side], [reach, reach])[0]
    rows, columns = wave.rect.slices(*small.shape[-2:])
    near = torch.zeros_like(local)
    loose = round(_LOOSE * min(small.shape[-2:]))
    near[
        max(0, rows.start - loose) : rows.stop + loose,
        max(0, columns.start - loose) : columns.stop + loose,
    ] = 1
    own = torch.full_like(local, epsilon)
    if bool((colour.abs() < 1).any()):
        levels = small.round().clamp(0, 255).to(torch.uint8)
        own = bound_map(levels[None], round(epsilon), STRENGTH.floor)[0, 0].float()
    return square, own * (local > _FOLLOWS / 2 * own) * near
