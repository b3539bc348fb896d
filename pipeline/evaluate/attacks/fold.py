"""Folding: each part of a picture laid over itself at the period that its own spectrum shows.

What repeats at that period stays, content cancels out. It knows nothing of the protection but that
something repeats; sign and colour come out of one picture alone.
"""

import math

import numpy as np
import torch
from PIL import Image
from torchvision.transforms.v2 import functional

from .gratings import CELLS, QUARTERS, reduced, strongest, subtract

_PERIODS = (2.5, 10.0)
_STEPS = 16
# One in ten parts of clean photographs scores more.
_LEAST = 50.0


def run(image: Image.Image, epsilon: float, _seed: int) -> Image.Image:
    """Return ``image`` less what repeats in each of its quarters, at most ``epsilon``."""
    pixels = np.array(image)
    small = reduced(pixels)
    whole = torch.from_numpy(pixels).permute(2, 0, 1).float()
    width = 2.0 * min(whole.shape[-2:]) / CELLS
    side = 2 * math.ceil(2 * width) + 1
    fine = whole - functional.gaussian_blur(whole, [side, side], [width, width])
    changes = []
    for rect in QUARTERS:
        wave = strongest(small, rect, _PERIODS)
        if wave.score < _LEAST:
            continue
        part = fine[(slice(None), *rect.slices(*whole.shape[-2:]))]
        turns = (wave.angle(*whole.shape[-2:]) / (2 * math.pi)) % 1
        place = (turns * _STEPS).long().clamp(max=_STEPS - 1).flatten()
        sums = torch.zeros(3, _STEPS).index_add_(1, place, part.flatten(1))
        profile = sums / torch.bincount(place, minlength=_STEPS).clamp(min=1)
        profile = profile - profile.mean(1, keepdim=True)
        changes.append((rect, profile[:, place].view(part.shape)))
    return Image.fromarray(subtract(pixels, changes, epsilon))
