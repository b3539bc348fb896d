"""The bound map: what each pixel of a picture may change before an eye sees it.

An eye sees a faint change on smooth ground and misses it beside contrast, and it tells mid-greys
apart better than dark or very light tones. The map follows from the picture alone, whatever batch
it is in, and whole numbers and correctly rounded operations make it equal on every machine.

Source: contrast masking after Legge and Foley 1980; the threshold of lightness is that of Chou and
Li 1995, eq. 5.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Ground = Literal["colour", "grey", "flat"]

# The window of local contrast, as a share of the shorter side, on either side of a pixel.
_REACH = 1 / 64
# Standard deviation of luma, 8-bit levels, beside which the whole budget goes unseen.
_MASKED = 24.0
# Share of the threshold of lightness that counts: screens and viewers differ in the dark.
_LIGHTNESS = 0.5
# Luma of ITU-R BT.601, in 256ths.
_LUMA = (77, 150, 29)


def is_grey(image: Tensor) -> bool:
    """Tell whether the three channels of an image (uint8 [3, H, W]) are equal."""
    return all(torch.equal(image[0], other) for other in image[1:])


def ground_of(image: Tensor) -> Ground:
    """Tell what an image (uint8 [3, H, W]) can carry patterns on.

    ``flat``: half of it is of plain colour, like a drawing's, where every grating shows.
    """
    if is_grey(image):
        return "grey"
    # Every fourth line tells enough.
    here, right, below = image[:, :-1:4, :-1], image[:, :-1:4, 1:], image[:, 1::4, :-1]
    red, green, blue = (here ^ right) | (here ^ below)
    plain = red.numel() - (red | green | blue).count_nonzero()
    return "flat" if plain * 2 >= max(1, red.numel()) else "colour"


def bound_map(images: Tensor, epsilon: int, floor: float) -> Tensor:
    """Return what each pixel may change.

    Args:
        images: uint8 [B, 3, H, W].
        epsilon: bound where nothing is seen, 8-bit levels.
        floor: share of it that smooth ground of mid-grey gets, above 0; 1 gives a uniform bound.

    Returns:
        int8 [B, 3, H, W] of 1 to ``epsilon``, the same for the three channels.
    """
    if floor >= 1:
        return torch.full_like(images, epsilon, dtype=torch.int8)
    found = torch.empty_like(images, dtype=torch.int8)
    for image, bound in zip(images, found, strict=True):
        levels = _weight(image, floor) * epsilon
        bound[:] = (levels + 0.5).floor().clamp(1, epsilon).to(torch.int8)
    return found


def _weight(image: Tensor, floor: float) -> Tensor:
    """Return the share of epsilon that each pixel of ``image`` gets, float64 [H, W]."""
    parts = [plane.to(torch.int64) * part for plane, part in zip(image, _LUMA, strict=True)]
    luma = (parts[0] + parts[1] + parts[2]) >> 8
    reach = max(1, round(min(luma.shape) * _REACH))
    count = _window_size(luma, reach)
    mean = _window_sum(luma, reach).double() / count
    square = _window_sum(luma * luma, reach).double() / count
    contrast = (square - mean * mean).clamp(min=0).sqrt() / _MASKED
    dark = 17 * (1 - (mean / 127).clamp(max=1).sqrt())
    light = 3 * (mean - 127).clamp(min=0) / 128
    relief = (contrast + _LIGHTNESS * (dark + light) / 17).clamp(max=1)
    return floor + (1 - floor) * relief


def _window_sum(plane: Tensor, reach: int) -> Tensor:
    """Sum the pixels within ``reach`` of each pixel, as far as there are such, int64 [H, W]."""
    side = 2 * reach + 1
    table = F.pad(plane, (reach + 1, reach, reach + 1, reach)).cumsum(0)
    lines = (table[side:] - table[:-side]).cumsum(1)
    return lines[:, side:] - lines[:, :-side]


def _window_size(plane: Tensor, reach: int) -> Tensor:
    """Count the pixels within ``reach`` of each pixel of ``plane`` [H, W], float64 [H, W]."""
    counts = []
    for length in plane.shape:
        place = torch.arange(length, device=plane.device)
        low, high = (place - reach).clamp(min=0), (place + reach + 1).clamp(max=length)
        counts.append((high - low).double())
    return counts[0][:, None] * counts[1]
