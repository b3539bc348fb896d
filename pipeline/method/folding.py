"""Batch norms of a frozen image tower, folded into the convolutions before them."""

import logging
from copy import deepcopy
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

if TYPE_CHECKING:
    from open_clip import CLIP

log = logging.getLogger(__name__)

# Features of float32 that differ in their last digits alone stay this close.
_LEAST_COSINE = 0.9999


def fold_batch_norms(tower: nn.Module) -> int:
    """Fold every `BatchNorm2d` that follows a convolution into it; return how many were folded.

    A batch norm in evaluation mode is a product and a sum for each channel, so a convolution can do
    its work. The pairs are found by the order in which a module lists its parts.

    Args:
        tower: frozen, in evaluation mode; changed in place.
    """
    count = 0
    for parent in tower.modules():
        before: tuple[str, nn.Module] | None = None
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d) and before is not None:
                place, convolution = before
                if isinstance(convolution, nn.Conv2d):
                    folded = fuse_conv_bn_eval(convolution, child).requires_grad_(False)
                    setattr(parent, place, folded)
                    setattr(parent, name, nn.Identity())
                    count += 1
            before = name, child
    return count


def fold(model: "CLIP", images: Tensor) -> None:
    """Fold the batch norms of ``model``'s image tower where its features stay as they are.

    Args:
        model: frozen, in evaluation mode; changed in place.
        images: inputs [B, 3, S, S] that the features are compared on.
    """
    plain = model.visual
    folded = deepcopy(plain)
    if not fold_batch_norms(folded):
        return
    with torch.no_grad():
        wanted = model.encode_image(images)
        model.visual = folded
        closest = F.cosine_similarity(model.encode_image(images), wanted, dim=-1).min().item()
    if not closest >= _LEAST_COSINE:
        log.warning("the batch norms of this image tower cannot be folded; it runs as it is")
        model.visual = plain
