"""A batch of images of any sizes, perturbed on their own pixels and seen at the model's size.

Native pixels become floats a group at a time, forwards and again on the way back, so that memory
follows a budget of pixels and not the sizes that happen to meet in a batch.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ...kernels.pgd_step import pgd_step, pgd_step_input
from ..seeds import derive_seed
from .models import ModelSpec, to_model_input
from .perceptual import Ground, bound_map, ground_of
from .transfer import send
from .views import Views

# Pixels of a batch that are worked on at once: few enough for a core's cache; a GPU takes many, but
# those of large pictures would take gigabytes.
_PIECE, _GPU_PIECE = 1 << 16, 1 << 22


def pieces(batch: Tensor) -> Iterator[tuple[slice, slice, slice]]:
    """Yield indices of the parts of a ``batch`` [B, C, H, W] that are worked on at once."""
    count, _, height, width = batch.shape
    most = _GPU_PIECE if batch.is_cuda else _PIECE
    images = min(count, max(1, most // (height * width)))
    rows = max(1, most // max(1, images * width))
    for first in range(0, count, max(1, images)):
        own = slice(first, min(first + images, count))
        for top in range(0, height, rows):
            yield own, slice(None), slice(top, min(top + rows, height))


class PixelBatch:
    """Images and their perturbations; images of equal size are held together.

    Args:
        images: uint8 [3, H, W] each.
        spec: the model that looks at them.
        device: where they are worked on; the images may lie there already.
        budget: pixels of a group, which are floats at once, no bound where None; a group has one
            image at least.
        views: what each step sees of them.

    Attributes:
        dtype: of the next step's input, where images have the model's own size: what its first
            layer computes in, so that no conversion stands between a step and the next pass.
        grounds: what each image can carry patterns on, in the order they came in; grey stays grey.
        bounds: int8, what each pixel may change, one tensor a group; empty where only epsilon does.
    """

    def __init__(
        self,
        images: Sequence[Tensor],
        spec: ModelSpec,
        device: str = "cpu",
        *,
        budget: int | None = None,
        views: Views | None = None,
    ) -> None:
        self.dtype = torch.float32
        self.spec, self.views = spec, views or Views()
        by_size: dict[tuple[int, int], list[int]] = {}
        for index, image in enumerate(images):
            height, width = image.shape[1:]
            by_size.setdefault((height, width), []).append(index)
        self.members: list[list[int]] = []
        for (height, width), indices in by_size.items():
            count = len(indices) if budget is None else max(1, budget // (height * width))
            self.members += [indices[at : at + count] for at in range(0, len(indices), count)]
        self.grounds: list[Ground] = [ground_of(image) for image in images]
        self.bounds: list[Tensor] = []
        stacks = [torch.stack([images[i] for i in group]) for group in self.members]
        self.images = [send(stack, device) for stack in stacks]
        self.deltas = [torch.zeros_like(group, dtype=torch.int8) for group in self.images]
        self.order = torch.tensor([i for group in self.members for i in group]).argsort()
        sides = [tuple(group.shape[-2:]) for group in self.images]
        self._seen_whole = not self.views and sides == [(spec.image_size, spec.image_size)]
        if self._seen_whole:
            self.images = [self.images[0].contiguous(memory_format=torch.channels_last)]
        self._grey = [self._grey_of(group, device) for group in self.members]
        self._view_seed = 0
        # The model input that the last step wrote, with the perturbation it belongs to and the
        # count of that tensor's changes in place.
        self._ahead: tuple[Tensor, Tensor, int] | None = None

    def _grey_of(self, members: Sequence[int], device: str) -> Tensor | None:
        """Return which of ``members`` have no colour, bool [b, 1, 1, 1], or None if all have."""
        found = [self.grounds[index] == "grey" for index in members]
        return send(torch.tensor(found).view(-1, 1, 1, 1), device) if any(found) else None

    def limit(self, epsilon: int, floor: float) -> None:
        """Hold perturbations inside the bound map (`bound_map`); a floor of 1 needs none."""
        if floor < 1:
            self.bounds = [bound_map(group, epsilon, floor) for group in self.images]

    def set_delta(self, group: int, delta: Tensor) -> None:
        """Take ``delta`` (int8 [B, 3, H, W]), cut to the bounds and so that levels stay in 0..255.

        A grey image takes the mean of the channels.
        """
        image, grey = self.images[group], self._grey[group]
        found = torch.empty_like(image, dtype=torch.int8)
        for part in pieces(image):
            levels, wide = image[part].to(torch.int16), delta[part].to(torch.int16)
            if grey is not None:
                mean = wide.sum(1, keepdim=True, dtype=torch.int16)
                wide = torch.where(grey[part[0]], mean.div(3, rounding_mode="trunc"), wide)
            if self.bounds:
                bound = self.bounds[group][part].to(torch.int16)
                wide = wide.clamp(-bound, bound)
            found[part] = (levels + wide).clamp_(0, 255).sub_(levels)
        self.deltas[group] = found

    def model_input(self) -> tuple[Tensor, list[Tensor]]:
        """Return the input [B, 3, S, S] and the float pixels (one tensor a group) behind it."""
        pixels = [self._levels(group).requires_grad_(True) for group in range(len(self.members))]
        return self._in_order([to_model_input(group, self.spec) for group in pixels]), pixels

    def seen(self) -> Tensor:
        """Return the input [B, 3, S, S] without a way back."""
        with torch.no_grad():
            groups = range(len(self.members))
            return self._in_order([to_model_input(self._levels(i), self.spec) for i in groups])

    def draw_view(self, seed: int) -> None:
        """Let the next step see views drawn from ``seed``."""
        self._view_seed = seed

    def step_input(self) -> tuple[Tensor, list[Tensor]]:
        """Return the input and the leaves whose gradients `step` takes: the input alone.

        Normalising changes no gradient's sign, so for images of the model's own size the step ends
        there; for others `step` takes the gradient on to their own pixels.
        """
        if not self._seen_whole:
            with torch.no_grad():
                seen = self._in_order([self._view(group)[0] for group in range(len(self.members))])
        elif (
            self._ahead is not None
            and self._ahead[1].dtype is self.dtype
            and self._ahead[0] is self.deltas[0]
            and self._ahead[2] == _changes(self.deltas[0])
        ):
            seen = self._ahead[1]
        else:
            seen = self.seen().to(self.dtype)
        leaf = seen.detach().requires_grad_(True)
        return leaf, [leaf]

    def step(
        self, gradients: Sequence[Tensor], step: int, epsilon: int, codes: Sequence[Tensor] | None
    ) -> None:
        """Take one PGD step; with ``codes`` (int8 of +-1) no perturbation crosses zero.

        Args:
            gradients: of the loss by the leaves of `step_input`.
            step: its length, 8-bit levels.
            epsilon: bound, 8-bit levels.
            codes: one tensor a group, or None.
        """
        (gradient,) = gradients
        for index, members in enumerate(self.members):
            image, delta = self.images[index], self.deltas[index]
            code = None if codes is None else codes[index]
            bound = self.bounds[index] if self.bounds else epsilon
            if not self._seen_whole:
                own = self._of_grey(index, self._pull(index, gradient[members]), (1.0, 1.0, 1.0))
                self.deltas[index] = pgd_step(image, delta, own, step, bound, code)
                continue
            mean, std = self.spec.mean, self.spec.std
            own = self._of_grey(index, gradient, std)
            moved, seen = pgd_step_input(
                image, delta, own, step, bound, mean, std, code=code, dtype=self.dtype
            )
            self.deltas[index], self._ahead = moved, (moved, seen, _changes(moved))

    def _of_grey(self, group: int, gradient: Tensor, std: Sequence[float]) -> Tensor:
        """Give the channels of grey images one gradient; a channel's counts by 1 / ``std``."""
        grey = self._grey[group]
        if grey is None:
            return gradient
        weighed = sum(plane / part for plane, part in zip(gradient.unbind(1), std, strict=True))
        assert isinstance(weighed, Tensor)
        return torch.where(grey, weighed.unsqueeze(1), gradient)

    def _pull(self, group: int, gradient: Tensor) -> Tensor:
        """Take the gradient ``gradient`` by the model's input on to a group's own pixels."""
        with torch.enable_grad():
            seen, pixels = self._view(group)
            (own,) = torch.autograd.grad(seen, pixels, gradient)
        return own

    def _view(self, group: int) -> tuple[Tensor, Tensor]:
        """Return what a step sees of a group, and the float pixels behind it."""
        pixels = self._levels(group).requires_grad_(True)
        view = self.views(pixels, derive_seed(self._view_seed, group)) if self.views else pixels
        return to_model_input(view, self.spec), pixels

    def _levels(self, group: int) -> Tensor:
        return (self.images[group].to(torch.int16) + self.deltas[group].to(torch.int16)).float()

    def _in_order(self, parts: list[Tensor]) -> Tensor:
        """Put what was made of the groups into the order the images came in."""
        if len(parts) == 1:
            return parts[0]
        return torch.cat(parts)[self.order].contiguous(memory_format=torch.channels_last)

    def split_deltas(self) -> list[Tensor]:
        """Perturbations in the order the images came in, int8 [3, H, W] each, on the host."""
        flat = [delta for group in self.deltas for delta in group.cpu()]
        return [flat[i].contiguous() for i in self.order.tolist()]


def _changes(tensor: Tensor) -> int:
    """How often ``tensor`` was changed in place."""
    return tensor._version  # noqa: SLF001  (autograd's own count has no public name)
