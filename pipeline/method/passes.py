"""What protection costs, counted where it is spent."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Passes:
    """Passes through the two towers, summed over samples.

    Attributes:
        image_forward: samples sent forward through the image tower.
        image_backward: samples sent backward through it.
        text_forward: texts sent forward through the text tower.
        text_backward: texts sent backward through it.
    """

    image_forward: int = 0
    image_backward: int = 0
    text_forward: int = 0
    text_backward: int = 0

    @staticmethod
    def weigh(forward: int, backward: int) -> float:
        """Forward+backward passes, a forward alone counted as a third (DESIGN section 8)."""
        return forward / 3 + backward * 2 / 3

    def add(self, other: Passes) -> None:
        """Add the counts of ``other``."""
        for name, count in other.as_dict().items():
            setattr(self, name, getattr(self, name) + count)

    def as_dict(self) -> dict[str, int]:
        """The four counts by name."""
        return dict(vars(self))
