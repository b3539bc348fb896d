"""A visit to a batch, as fit and protect take it: a search of triggers, PGD steps on images."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .hotflip import search_triggers
from .microbatch import MicroBatch, encode
from .passes import Passes
from .pgd import descend
from .pixels import PixelBatch
from .tokens import insert_trigger
from .transfer import send

if TYPE_CHECKING:
    from open_clip import CLIP


@dataclass
class Visit:
    """Pictures and triggers of one batch while they are changed.

    Attributes:
        pixels: images and their perturbations.
        trigger: int64 [B, k], on the host.
        device: where models and pixels are.
        epsilon: bound, 8-bit levels.
        passes: counts are added here.
        memory: how many samples' activations are kept at once.
        codes: signs that perturbations must keep, one tensor for each image size, or None.
    """

    pixels: PixelBatch
    trigger: Tensor
    device: str
    epsilon: int
    passes: Passes
    memory: MicroBatch = field(default_factory=MicroBatch)
    codes: list[Tensor] | None = None

    def search(self, model: "CLIP", bodies: Tensor, allowed: Sequence[Tensor]) -> None:
        """Improve the triggers in front of ``bodies`` (int64 [B, L]) by HotFlip."""
        self.trigger = search_triggers(
            model,
            self.image_features(model),
            send(bodies, self.device),
            send(self.trigger, self.device),
            allowed,
            self.passes,
            self.memory,
        ).cpu()

    def descend(self, model: "CLIP", text: Tensor, *, ascend: bool = False) -> None:
        """Take one PGD step towards the text features [B, D], or away from them."""
        descend(
            model,
            self.pixels,
            text,
            self.epsilon,
            self.codes,
            self.passes,
            self.memory,
            ascend=ascend,
        )

    def image_features(self, model: "CLIP") -> Tensor:
        """Return the features [B, D] of the pictures as they are now."""
        with torch.no_grad():
            features = encode(model.encode_image, self.pixels.seen())
        self.passes.image_forward += len(features)
        return features

    def text_features(self, model: "CLIP", bodies: Tensor, trigger: Tensor | None) -> Tensor:
        """Return the features [B, D] of ``bodies`` (int64 [B, L]) with ``trigger`` in front."""
        tokens = bodies if trigger is None else insert_trigger(bodies, trigger)
        self.passes.text_forward += len(tokens)
        return encode(model.encode_text, send(tokens, self.device))
