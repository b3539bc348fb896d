"""Untargeted TAP as the code of MEM's authors runs it: noise away from an image's own captions."""

from typing import TYPE_CHECKING, ClassVar

from .base import Replayed

if TYPE_CHECKING:
    from ..surrogate import Surrogate


class UntargetedPoison(Replayed):
    """Eight steps up the loss of a clean checkpoint."""

    alternates = False
    ascends: ClassVar[bool] = True

    def steps(self, surrogate: "Surrogate | None") -> int:
        """Return the authors' number of steps."""
        return self.published_steps


METHOD = UntargetedPoison()
