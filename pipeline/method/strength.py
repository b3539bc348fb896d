"""Strengths: how much of what a picture may change is used, and where it is seen."""

from dataclasses import dataclass, replace
from typing import Literal

StrengthName = Literal["gentle", "balanced", "strong"]


@dataclass(frozen=True)
class Strength:
    """The settings of the patterns, for pictures at epsilon 8; another epsilon scales amplitudes.

    Attributes:
        casts: colours of the patterns: ``hues`` leave luma as it is, ``corners`` use the whole
            budget in every channel.
        cast: amplitude of the colours' grating, 8-bit levels.
        luma: amplitude of the brightness grating on pictures with colours, 8-bit levels.
        grey: amplitude of the brightness grating on pictures without colours, 8-bit levels.
        floor: share of epsilon that smooth ground gets (`perceptual.bound_map`); 1 gives all of
            the picture the same bound.
        cast_period: shortest and longest period of the colours' grating, in 64ths of the shorter
            side.
        luma_period: the same of the brightness grating.
        vary: how far a picture's own orientation and period may lie from those of the word: at 1
            the words' parts of the range touch, at 0 all pictures have the word's own.
    """

    casts: Literal["corners", "hues"]
    cast: float
    luma: float
    grey: float
    floor: float
    cast_period: tuple[float, float]
    luma_period: tuple[float, float]
    vary: float = 0.0


# The patterns of version 0.1, but for what the key draws.
_STRONG = Strength(
    casts="corners",
    cast=8,
    luma=0,
    grey=8,
    floor=1,
    cast_period=(3.5, 4.5),
    luma_period=(3.5, 4.5),
)
STRENGTHS: dict[StrengthName, Strength] = {
    # Changes of hue alone hide best; a victim still learns most of the content.
    "gentle": Strength(
        casts="hues",
        cast=8,
        luma=3,
        grey=5,
        floor=0.5,
        cast_period=(6, 10),
        luma_period=(3.5, 5),
    ),
    "balanced": replace(_STRONG, floor=0.4),
    "strong": _STRONG,
}
"""The strengths by name: this table is the one place where each number is set."""
