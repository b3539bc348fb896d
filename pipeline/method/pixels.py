"""A batch of images of any sizes, perturbed on their own pixels and seen at the model's size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...kernels.pgd_step import pgd_step, pgd_step_input
from .models import ModelSpec, to_model_input
from .transfer import send


class PixelBatch:
    """Images and their perturbations; images of equal size are held together.

    Args:
        images: uint8 [3, H, W] each.
        spec: the model that looks at them.
        device: where they are worked on; the images may lie there already.
    """

    def __init__(self, images: Sequence[Tensor], spec: ModelSpec, device: str = "cpu") -> None:
        self.spec = spec
        by_size: dict[tuple[int, ...], list[int]] = {}
        for index, image in enumerate(images):
            by_size.setdefault(tuple(image.shape), []).append(index)
        self.members = list(by_size.values())
        stacks = [torch.stack([images[i] for i in group]) for group in self.members]
        self.images = [stack if stack.is_cuda else send(stack, device) for stack in stacks]
        self.deltas = [torch.zeros_like(group, dtype=torch.int8) for group in self.images]
        self.order = torch.tensor([i for group in self.members for i in group]).argsort()
        sides = [tuple(group.shape[-2:]) for group in self.images]
        self._seen_whole = sides == [(spec.image_size, spec.image_size)]
        if self._seen_whole:
            self.images = [self.images[0].contiguous(memory_format=torch.channels_last)]
        # The model input that the last step wrote, with the perturbation it belongs to and the
        # count of that tensor's changes in place.
        self._ahead: tuple[Tensor, Tensor, int] | None = None

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

    def step_input(self) -> tuple[Tensor, list[Tensor]]:
        """Return the input and the leaves (one a size) whose gradients `step` takes.

        The leaf of images of the model's own size is the input itself: normalising changes no
        gradient's sign.
        """
        if not self._seen_whole:
            return self.model_input()
        delta = self.deltas[0]
        if (
            self._ahead is not None
            and self._ahead[0] is delta
            and self._ahead[2] == _changes(delta)
        ):
            seen = self._ahead[1]
        else:
            with torch.no_grad():
                seen = self.model_input()[0]
        leaf = seen.detach().requires_grad_(True)
        return leaf, [leaf]

    def step(
        self, gradients: Sequence[Tensor], step: int, epsilon: int, codes: Sequence[Tensor] | None
    ) -> None:
        """Take one PGD step; with ``codes`` (int8 of +-1) no perturbation crosses zero."""
        for index, gradient in enumerate(gradients):
            image, delta = self.images[index], self.deltas[index]
            code = None if codes is None else codes[index]
            if not self._seen_whole:
                self.deltas[index] = pgd_step(image, delta, gradient, step, epsilon, code)
                continue
            mean, std = self.spec.mean, self.spec.std
            moved, seen = pgd_step_input(
                image, delta, gradient, step, epsilon, mean, std, code=code
            )
            self.deltas[index], self._ahead = moved, (moved, seen, _changes(moved))

    def split_deltas(self) -> list[Tensor]:
        """Perturbations in the order the images came in, int8 [3, H, W] each, on the host."""
        flat = [delta for group in self.deltas for delta in group.cpu()]
        return [flat[i].contiguous() for i in self.order.tolist()]


def _changes(tensor: Tensor) -> int:
    """How often ``tensor`` was changed in place."""
    return tensor._version  # noqa: SLF001  (autograd's own count has no public name)
