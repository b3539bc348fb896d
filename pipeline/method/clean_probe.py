"""How much of clean pictures a model reads: its loss on pairs that it was not trained on."""

import math
from statistics import fmean
from typing import TYPE_CHECKING

from torch import Tensor

from .microbatch import encode
from .models import ModelSpec, to_model_input
from .objective import info_nce
from .passes import Passes

if TYPE_CHECKING:
    from open_clip import CLIP


def share_of_guess(
    model: "CLIP",
    spec: ModelSpec,
    images: Tensor,
    tokens: Tensor,
    batch_size: int,
    device: str,
    passes: Passes,
) -> float:
    """Return the mean loss of whole batches, as a share of the loss of a guess.

    Args:
        model: of few steps in training mode, where it is judged by statistics of the batch.
        spec: its input.
        images: uint8 [N, 3, S, S].
        tokens: int64 [N, L], a caption of each.
        batch_size: pairs compared with one another, or all where there are fewer.
        device: of the model.
        passes: counts what this takes.

    Returns:
        0 for a model that knows every pair, 1 for a guess and where there are fewer than two pairs.
    """
    count = min(batch_size, len(images))
    if count < 2:
        return 1.0
    shares = []
    for start in range(0, len(images) - count + 1, count):
        part = slice(start, start + count)
        image = encode(model.encode_image, to_model_input(images[part].to(device), spec))
        text = encode(model.encode_text, tokens[part].to(device))
        loss = info_nce(image, text, model.logit_scale.exp()).mean()
        passes.add(Passes(image_forward=count, text_forward=count))
        shares.append(loss.item() / math.log(count))
    return fmean(shares)
