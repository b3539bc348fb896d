"""A batch of images of any sizes, perturbed on their own pixels and seen at the model's size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...kernels.pgd_step import pgd_step
from .models import ModelSpec, to_model_input


class PixelBatch:
    """Images and their perturbations; images of equal size are held together.

    Args:
        images: uint8 [3, H, W] each.
        spec: the model that looks at them.
    """

    def __init__(self, images: Sequence[Tensor], spec: ModelSpec) -> None:
        self.spec = spec
        by_size: dict[tuple[int, ...], list[int]] = {}
        for index, image in enumerate(images):
            by_size.setdefault(tuple(image.shape), []).append(index)
        self.members = list(by_size.values())
        self.images = [torch.stack([images[i] for i in group]) for group in self.members]
        self.deltas = [torch.zeros_like(group, dtype=torch.int8) for group in self.images]
        self.order = torch.tensor([i for group in self.members for i in group]).argsort()

    def set_delta(self, group: int, delta: Tensor) -> None:
        """Take ``delta`` (int8 [B, 3, H, W]), cut so that the image stays in 0..255."""
        levels = self.images[group].to(torch.int16)
        published = (levels + delta.to(torch.int16)).clamp_(0, 255)
        self.deltas[group] = (published - levels).to(torch.int8)

    def model_input(self) -> tuple[Tensor, list[Tensor]]:
        """Return the input [B, 3, S, S] and the float pixels (one tensor a size) behind it."""
        pixels = [
            (image.to(torch.int16) + delta.to(torch.int16)).float().requires_grad_(True)
            for image, delta in zip(self.images, self.deltas, strict=True)
        ]
        seen = torch.cat([to_model_input(group, self.spec) for group in pixels])
        if len(self.members) > 1:
            seen = seen[self.order].contiguous(memory_format=torch.channels_last)
        return seen, pixels

    def step(
        self, gradients: Sequence[Tensor], step: int, epsilon: int, codes: Sequence[Tensor] | None
    ) -> None:
        """Take one PGD step; with ``codes`` (int8 of +-1) no perturbation crosses zero."""
        for index, gradient in enumerate(gradients):
            moved = pgd_step(self.images[index], self.deltas[index], gradient, step, epsilon)
            if codes is not None:
                moved = torch.where(moved * codes[index] < 0, torch.zeros_like(moved), moved)
            self.deltas[index] = moved

    def split_deltas(self) -> list[Tensor]:
        """Perturbations in the order the images came in, int8 [3, H, W] each."""
        flat = [delta for group in self.deltas for delta in group]
        return [flat[i] for i in self.order.tolist()]
