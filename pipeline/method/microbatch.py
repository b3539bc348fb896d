"""A model's towers over a batch, in units of a fixed size, as many in memory as it takes.

A kernel may sum in another order for another batch size, and the sign of a small gradient then
differs. Therefore every pass runs on units of the same samples. How many units keep their
activations for the way back depends on the memory, and that changes no result. Only where not even
one unit fits is the unit halved.
"""

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

log = logging.getLogger(__name__)

# A GPU computes larger units hardly faster.
UNIT = 128
# A unit is halved so many times at most.
_HALVINGS = 4


class Tower(Protocol):
    """``encode_image`` or ``encode_text`` of a CLIP model."""

    def __call__(self, rows: Tensor, normalize: bool = ...) -> Tensor:
        """Return unit-length features [B, D] of ``rows`` [B, ...]."""
        ...


# Takes a unit; returns what to differentiate by and the features.
Forward = Callable[[Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class BatchGradient:
    """The derivative of a loss of a whole batch.

    Attributes:
        gradient: [B, ...], by what was asked for.
        features: [B, D].
        again: samples that went forward a second time.
    """

    gradient: Tensor
    features: Tensor
    again: int


def by_input(tower: Tower) -> Forward:
    """Return a pass through ``tower`` that can be differentiated by its input."""

    def forward(unit: Tensor) -> tuple[Tensor, Tensor]:
        leaf = unit.detach().requires_grad_(True)
        return leaf, tower(leaf, normalize=True)

    return forward


def encode(tower: Tower, rows: Tensor) -> Tensor:
    """Return the features [B, D] of ``rows`` [B, ...], without a way back."""
    size = UNIT
    while True:
        try:
            with torch.no_grad():
                return torch.cat([tower(unit, normalize=True) for unit in rows.split(size)])
        except torch.OutOfMemoryError:
            if size <= UNIT >> _HALVINGS:
                raise
        size //= 2
        if rows.is_cuda:
            torch.cuda.empty_cache()


@dataclass
class MicroBatch:
    """The samples whose activations are kept at once; halved when memory runs out.

    Those of the others are computed a second time on the way back. Made once a process: what has
    not fitted once is not tried again.

    Attributes:
        units: how many units of samples; None for whole batches.
        halved: how often the unit was halved, because not even one fitted.
    """

    units: int | None = None
    halved: int = 0

    def gradient(
        self, forward: Forward, rows: Tensor, loss: Callable[[Tensor], Tensor]
    ) -> BatchGradient:
        """Differentiate a loss that needs the features of the whole batch.

        Args:
            forward: the pass of a unit through a tower of a frozen model.
            rows: the tower's input [B, ...].
            loss: scalar of all features [B, D].

        Raises:
            torch.OutOfMemoryError: one unit does not fit.
        """
        while True:
            parts = rows.detach().split(max(1, UNIT >> self.halved))
            held = len(parts) if self.units is None else min(self.units, len(parts))
            try:
                return _gradient(forward, parts, loss, held)
            except torch.OutOfMemoryError as error:
                self._halve(held, len(rows), error)
            # Not in the handler: the error holds the frames, and they the activations.
            if rows.is_cuda:
                torch.cuda.empty_cache()

    def _halve(self, held: int, count: int, error: torch.OutOfMemoryError) -> None:
        unit = UNIT >> self.halved
        if not held and unit > UNIT >> _HALVINGS and unit > 1:
            self.halved += 1
            log.warning(
                "out of memory: computes %d samples at once from now on, not %d; the last bits of "
                "gradients can differ from those of a device with more memory",
                unit // 2,
                min(unit, count),
            )
            return
        if not held:
            raise torch.OutOfMemoryError(
                f"the activations of {min(unit, count)} samples do not fit in the device's memory: "
                f"give a worker more of it (fewer workers on a GPU, a larger GPU) or fit a smaller "
                f"model ({error})"
            ) from error
        self.units = held // 2
        log.warning(
            "out of memory: keeps the activations of %d samples from now on, not %d",
            self.units * unit,
            min(held * unit, count),
        )


def _gradient(
    forward: Forward, parts: tuple[Tensor, ...], loss: Callable[[Tensor], Tensor], held: int
) -> BatchGradient:
    """Differentiate; the activations of the first ``held`` parts are kept between the two ways."""
    kept: deque[tuple[Tensor, Tensor]] = deque()
    seen = []
    for part in parts:
        leaf, feature = forward(part)
        seen.append(feature.detach())
        if len(kept) < held:
            kept.append((leaf, feature))
        del leaf, feature
    features = torch.cat(seen).requires_grad_(True)
    (pull,) = torch.autograd.grad(loss(features), features)
    found = []
    for part, direction in zip(parts, pull.split(len(parts[0])), strict=True):
        leaf, feature = kept.popleft() if kept else forward(part)
        found.append(torch.autograd.grad(feature, leaf, direction)[0])
        del leaf, feature
    again = sum(len(part) for part in parts[held:])
    return BatchGradient(torch.cat(found), features.detach(), again)
