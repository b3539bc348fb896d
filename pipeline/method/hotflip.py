"""HotFlip (Ebrahimi et al. 2018): the words of a trigger, searched by first-order score."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ...kernels.hotflip_topk import hotflip_topk
from .microbatch import BatchGradient, MicroBatch, encode
from .objective import info_nce, swap_loss
from .passes import Passes
from .tokens import insert_trigger

if TYPE_CHECKING:
    from open_clip import CLIP


# Words tried at each position (paper: 16).
CANDIDATES = 16


class _EmbeddingTap:
    """Keeps the output of a token embedding so that its gradient can be read."""

    def __init__(self, embedding: nn.Module) -> None:
        self.value: Tensor | None = None
        self._handle = embedding.register_forward_hook(self._keep)

    def _keep(self, _module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        self.value = output.detach().requires_grad_(True)
        return self.value

    def close(self) -> None:
        self._handle.remove()


def _by_embedding(
    model: "CLIP", tokens: Tensor, image_features: Tensor, memory: MicroBatch
) -> BatchGradient:
    """Differentiate the batch's loss by every token embedding [B, L, E]."""
    scale = model.logit_scale.exp()

    def forward(unit: Tensor) -> tuple[Tensor, Tensor]:
        tap = _EmbeddingTap(model.token_embedding)
        try:
            features = model.encode_text(unit, normalize=True)
        finally:
            tap.close()
        assert tap.value is not None
        return tap.value, features

    return memory.gradient(
        forward, tokens, lambda text: info_nce(image_features, text, scale).sum()
    )


def search_triggers(
    model: "CLIP",
    image_features: Tensor,
    bodies: Tensor,
    trigger_ids: Tensor,
    allowed: Sequence[Tensor],
    passes: Passes,
    memory: MicroBatch,
) -> Tensor:
    """Improve every sample's trigger, one position after the other, left to right.

    The image tower is not run: its features do not depend on the trigger. A word is kept for a
    sample only where it lowers the loss of that very sample.

    Args:
        model: the surrogate, frozen.
        image_features: [B, D], unit length.
        bodies: int64 [B, L], captions without trigger.
        trigger_ids: int64 [B, k], where the search starts.
        allowed: token ids each position may use, int64 [V_j] each.
        passes: counts are added here.
        memory: how many samples' activations are kept at once.

    Returns:
        int64 [B, k].
    """
    chosen = trigger_ids.clone()
    scale = model.logit_scale.exp().detach()
    table = model.token_embedding.weight.detach()
    batch, length = bodies.shape
    for position in range(chosen.shape[1]):
        found = _by_embedding(model, insert_trigger(bodies, chosen), image_features, memory)
        gradient, features = found.gradient, found.features
        words = allowed[position]
        proposals = hotflip_topk(
            gradient[:, 1 + position, None], table, min(CANDIDATES, len(words)), words[None]
        )[:, 0]
        with torch.no_grad():
            trial = chosen[:, None].repeat(1, proposals.shape[1], 1)
            trial[:, :, position] = proposals
            rows = insert_trigger(
                bodies[:, None].expand(-1, trial.shape[1], -1).reshape(-1, length),
                trial.flatten(0, 1),
            )
            encoded = encode(model.encode_text, rows)
            losses = swap_loss(
                image_features, features, encoded.view(batch, trial.shape[1], -1), scale
            )
            now = info_nce(image_features, features, scale)
            value, index = losses.min(dim=1)
            better = value < now
            best = proposals.gather(1, index[:, None])[:, 0]
            chosen[:, position] = torch.where(better, best, chosen[:, position])
        passes.text_forward += batch * (1 + trial.shape[1])
        passes.again += found.again
        passes.text_backward += batch
    return chosen
