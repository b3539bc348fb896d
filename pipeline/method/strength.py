"""Strengths: how much of what a picture may change is used, and where it is seen."""

from dataclasses import dataclass, replace
from typing import Literal

StrengthName = Literal["gentle", "balanced", "strong"]
Levels = tuple[float, float, float]


@dataclass(frozen=True)
class Strength:
    """The settings of the patterns, for pictures at epsilon 8; another epsilon scales amplitudes.

    Attributes:
        axes: how the gratings of each of three axes change red, green and blue, 8-bit levels.
        grey: amplitude of the gratings on pictures without colours, 8-bit levels.
        tint: of the tints on pictures of plain colours, which get no gratings, 8-bit levels.
        floor: share of epsilon that smooth ground gets (`perceptual.bound_map`); 1 gives all of
            the picture the same bound.
        period: shortest and longest period of a grating, in 64ths of the shorter side.
        shift: share of a period by which a picture's gratings may lie apart from the word's own.
    """

    axes: tuple[Levels, Levels, Levels]
    grey: float
    tint: float
    floor: float
    period: tuple[float, float] = (3.8, 4.6)
    shift: float = 0.5


# Two hues that leave luma as it is, and a faint change of luma.
_HUES = Strength(axes=((5.6, -2.9, 0), (0, -1.1, 5.6), (2.4, 2.4, 2.4)), grey=5, tint=5, floor=1)
STRENGTHS: dict[StrengthName, Strength] = {
    "gentle": replace(_HUES, tint=3, floor=0.5),
    "balanced": _HUES,
    "strong": Strength(axes=((8, 0, 0), (0, 8, 0), (0, 0, 8)), grey=8, tint=8, floor=1),
}
"""The strengths by name: this table is the one place where each number is set."""
