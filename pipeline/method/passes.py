"""What protection costs, counted where it is spent."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass
class Passes:
    """Passes through the two towers, summed over samples.

    Attributes:
        image_forward: samples sent forward through the image tower.
        image_backward: samples sent backward through it.
        text_forward: texts sent forward through the text tower.
        text_backward: texts sent backward through it.
        again: samples sent forward a second time because memory was short; in none of the others,
            which depend on the method alone.
    """

    image_forward: int = 0
    image_backward: int = 0
    text_forward: int = 0
    text_backward: int = 0
    again: int = 0

    @staticmethod
    def weigh(forward: float, backward: float) -> float:
        """Forward+backward passes, a forward alone counted as a third."""
        return forward / 3 + backward * 2 / 3

    def add(self, other: "Passes") -> None:
        """Add the counts of ``other``."""
        for name, count in vars(other).items():
            setattr(self, name, getattr(self, name) + count)

    @staticmethod
    def by_tower(counts: Mapping[str, float]) -> dict[str, float]:
        """Forward+backward passes through each tower, of counts by name as `as_dict` gives them."""
        return {
            tower: Passes.weigh(
                counts.get(f"{tower}_forward", 0.0), counts.get(f"{tower}_backward", 0.0)
            )
            for tower in ("image", "text")
        }

    @staticmethod
    def told(by_tower: Mapping[str, float]) -> str:
        """Say what `by_tower` gave."""
        image, text = (by_tower.get(tower, 0.0) for tower in ("image", "text"))
        return (
            f"{image:.1f} forward+backward passes through the image tower and {text:.1f} through "
            f"the text tower"
        )

    def as_dict(self) -> dict[str, int]:
        """The counts that depend on the method alone, by name."""
        return {name: count for name, count in vars(self).items() if name != "again"}
