"""The contrastive objective that MEM minimises and a victim trains on."""

import torch
import torch.nn.functional as F
from torch import Tensor


def info_nce(image_features: Tensor, text_features: Tensor, scale: Tensor) -> Tensor:
    """Symmetric InfoNCE of each sample (Radford et al. 2021, fig. 3).

    Args:
        image_features: [B, D], unit length.
        text_features: [B, D], unit length.
        scale: inverse temperature, scalar.

    Returns:
        Loss of each sample, [B]; its mean is the training loss.
    """
    logits = scale * image_features @ text_features.T
    target = torch.arange(len(logits), device=logits.device)
    by_image = F.cross_entropy(logits, target, reduction="none")
    by_text = F.cross_entropy(logits.T, target, reduction="none")
    return (by_image + by_text) / 2


def swap_loss(
    image_features: Tensor, text_features: Tensor, candidates: Tensor, scale: Tensor
) -> Tensor:
    """Loss of each sample if its own text alone were replaced by each candidate.

    Args:
        image_features: [B, D], unit length.
        text_features: [B, D], the texts now in place.
        candidates: [B, C, D], unit length.
        scale: inverse temperature, scalar.

    Returns:
        [B, C]; column c of row i equals ``info_nce(...)[i]`` after that swap.
    """
    logits = scale * image_features @ text_features.T
    own = scale * torch.einsum("bd,bcd->bc", image_features, candidates)
    others = logits.masked_fill(
        torch.eye(len(logits), dtype=torch.bool, device=logits.device), -torch.inf
    )
    by_image = torch.logaddexp(own, others.logsumexp(1)[:, None]) - own
    against_images = scale * torch.einsum("jd,bcd->bcj", image_features, candidates)
    by_text = against_images.logsumexp(2) - own
    return (by_image + by_text) / 2
