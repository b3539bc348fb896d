"""The sign of each trigger word's pattern, estimated from the published copy alone.

Patterns use the whole budget, so that the sign of a mean is enough: an estimate that is half
content still has most signs right. What is no part of the periods that stand out in a word's mean
picture is taken away first.
"""

import numpy as np
import torch
from torch import Tensor

from ..pairs import Pairs, Pixels, blocks, with_pixels
from .averaging import Rows, patterns_of, residual, word_columns
from .inputs import Inputs

# Share of frequencies that a word's pattern is built from.
_PEAKS = 0.01
# A pattern that explains less than this share of the budget is none.
_LEAST = 0.25
# Pixels over which that share is measured.
_REACH = 9


def run(pairs: Pairs, inputs: Inputs) -> Pairs:
    """Subtract each word's signs at the budget from the pictures of the word."""
    words, epsilon = inputs.trigger
    index = word_columns(pairs.captions, words)
    targets = ((rows, residual(torch.from_numpy(pixels).float())) for rows, pixels in blocks(pairs))
    signs = _quantised(patterns_of(index, targets, epsilon), epsilon)

    def cleaned(rows: Rows, pixels: Pixels) -> Pixels:
        change = sum(signs[index[rows, place]] for place in range(index.shape[1]))
        bounded = np.clip(change, -epsilon, epsilon)
        return np.asarray((pixels - bounded).round().clip(0, 255), dtype=np.uint8)

    return with_pixels(pairs, inputs.path, (cleaned(rows, found) for rows, found in blocks(pairs)))


def _quantised(means: Tensor, epsilon: float) -> Pixels:
    """Return the signs of what repeats in each mean, int8 [1 + words, S, S, 3], 0 for no word."""
    spectrum = torch.fft.rfft2(means.permute(0, 3, 1, 2))
    power = spectrum.abs().square().sum(1, keepdim=True)
    flat = power.flatten(1)
    least = flat.kthvalue(max(1, round(flat.shape[1] * (1 - _PEAKS))), dim=1)[0]
    spectrum = torch.where(power > least[:, None, None, None], spectrum, 0)
    folded = torch.fft.irfft2(spectrum, s=means.shape[1:3]).permute(0, 2, 3, 1)
    # A bound map leaves little on smooth ground: there a mean is content.
    near = torch.nn.functional.avg_pool2d(
        folded.abs().amax(3)[:, None], _REACH, 1, _REACH // 2, count_include_pad=False
    )[:, 0, :, :, None]
    signs = torch.where(near > _LEAST * epsilon, folded.sign() * epsilon, 0.0).round()
    signs[0] = 0
    return np.asarray(signs.numpy().astype(np.int8))
