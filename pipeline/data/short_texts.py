"""Results for short texts, kept for a while: a caption is looked at again in every check."""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import TypeVar, TypeVarTuple

A = TypeVarTuple("A")
R = TypeVar("R")

# Enough for the samples in work; with the longest texts a cache holds a few megabytes.
_KEPT, _SHORT = 256, 1 << 13


def kept_if_short(function: Callable[[str, *A], R]) -> Callable[[str, *A], R]:
    """Keep the last results of a function of a text; its arguments are hashable."""
    kept = lru_cache(_KEPT)(function)

    @wraps(function)
    def call(text: str, /, *args: *A) -> R:
        return (kept if len(text) <= _SHORT else function)(text, *args)

    return call
