"""Orthogonal projection (Sandoval-Segura et al., NeurIPS 2023, algorithm 1).

A linear classifier learns the classes from pixels; what it reads first in a protected copy is the
perturbation. Pictures are projected onto what is orthogonal to its weights. The first words of the
captions, the trigger's, take the place of class labels.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...seeds import derive_seed
from ..pairs import Pairs, Pixels, blocks, with_pixels
from ..victim import private_torch_state
from .averaging import Rows, word_columns
from .inputs import Inputs

_EPOCHS, _BATCH, _LR = 10, 128, 0.1


def run(pairs: Pairs, inputs: Inputs) -> Pairs:
    """Project every picture onto what no linear classifier of the trigger's words reads."""
    index = word_columns(pairs.captions, inputs.trigger.words)
    with private_torch_state(inputs.threads, derive_seed("project", inputs.seed)):
        weights = _trained(pairs, index, inputs.device)
    basis = torch.linalg.qr(weights.T)[0]

    def cleaned(pixels: Pixels) -> Pixels:
        flat = torch.from_numpy(pixels).flatten(1).to(basis.device).float()
        kept = flat - (flat @ basis) @ basis.T
        levels = kept.round().clamp(0, 255).to(torch.uint8).view(pixels.shape)
        return np.asarray(levels.cpu().numpy())

    return with_pixels(pairs, inputs.path, (cleaned(found) for _, found in blocks(pairs)))


def _trained(pairs: Pairs, index: Rows, device: torch.device) -> Tensor:
    """Return the weights of a softmax a place, float32 [words, S * S * 3], by SGD."""
    images, labels = pairs.images(), torch.from_numpy(index)
    weights = torch.zeros(int(index.max()) + 1, images[0].size, device=device, requires_grad=True)
    optimizer = torch.optim.SGD([weights], _LR)
    for _ in range(_EPOCHS):
        for rows in torch.randperm(len(pairs)).split(_BATCH):
            pixels = torch.from_numpy(images[rows.numpy()]).to(device).float() / 255
            # A picture's mean colour is content; the classifier would spend its first steps on it.
            pixels = pixels - pixels.mean((1, 2), keepdim=True)
            scores = F.linear(pixels.flatten(1), weights)
            loss = sum(_loss(scores, place.to(device)) for place in labels[rows].T)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[union-attr]
            optimizer.step()
    return weights.detach()[1:]


def _loss(scores: Tensor, own: Tensor) -> Tensor:
    """Return the cross entropy among the words of one place; 0 is no word."""
    if not bool((own > 0).any()):
        return scores.sum() * 0
    low, high = int(own[own > 0].min()), int(own.max()) + 1
    known = own > 0
    return F.cross_entropy(scores[known, low:high], own[known] - low)
