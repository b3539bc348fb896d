"""How much of clean pictures a model reads: its loss on pairs that it was not trained on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from torch import Tensor

from .models import ModelSpec, get_tokenizer, to_model_input
from .objective import info_nce
from .units import encode

if TYPE_CHECKING:
    from open_clip import CLIP


def share_of_guess(
    model: CLIP,
    spec: ModelSpec,
    images: Tensor,
    captions: Sequence[Sequence[str]],
    batch_size: int,
    device: str,
) -> float:
    """Return the mean loss of whole batches, as a share of the loss of a guess.

    Args:
        model: in evaluation mode.
        spec: its input.
        images: uint8 [N, 3, S, S].
        captions: of each image; the first one counts.
        batch_size: pairs compared with one another, or all where there are fewer.
        device: of the model.

    Returns:
        0 for a model that knows every pair, 1 for a guess and where there are fewer than two pairs.
    """
    count = min(batch_size, len(images))
    if count < 2:
        return 1.0
    tokenizer: Any = get_tokenizer(spec.name, spec.context_length)
    tokens = tokenizer([texts[0] for texts in captions]).to(device)
    shares = []
    for start in range(0, len(images) - count + 1, count):
        part = slice(start, start + count)
        image = encode(model.encode_image, to_model_input(images[part].to(device), spec))
        text = encode(model.encode_text, tokens[part])
        loss = info_nce(image, text, model.logit_scale.exp()).mean()
        shares.append(loss.item() / math.log(count))
    return fmean(shares)
