"""What a check of some shards says of all of them."""

import math
import random
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from ..errors import UsageError

CONFIDENCE = 0.95

T = TypeVar("T")


@dataclass(frozen=True)
class ShardSample:
    """Shards drawn at random, all equally likely, and what was found in them.

    Attributes:
        checked: shards that were checked.
        shards: shards that there are.
        seed: draws the same ones again.
        wrong: checked shards with a violation.
        at_most: how many shards in all are wrong at most, with the stated confidence.
        confidence: share of draws in which such a statement is true.
    """

    checked: int
    shards: int
    seed: int
    wrong: int
    at_most: int
    confidence: float = CONFIDENCE

    def __str__(self) -> str:
        share = 100 * self.at_most / self.shards
        wrong = "none wrong" if not self.wrong else f"{self.wrong} wrong"
        return (
            f"a random sample (seed {self.seed}): {self.checked} of {self.shards} shards checked "
            f"and {wrong}, so at most {share:.2g} % of all shards ({self.at_most}) are wrong, at "
            f"{100 * self.confidence:g} % confidence; the card was not checked"
        )


def draw(shards: Sequence[T], count: int, seed: int | None) -> tuple[list[T], int]:
    """Draw ``count`` shards; return them in their order, and the seed.

    Args:
        shards: all of them.
        count: how many; all when there are fewer.
        seed: None for another draw each time, so that nobody can tell which will be checked.

    Raises:
        UsageError: ``count`` is less than 1.
    """
    if count < 1:
        raise UsageError(f"sample-shards is {count}; it must be at least 1")
    seed = secrets.randbelow(1 << 31) if seed is None else seed
    places = random.Random(seed).sample(range(len(shards)), min(count, len(shards)))
    return [shards[place] for place in sorted(places)], seed


def upper_bound(shards: int, checked: int, wrong: int, confidence: float = CONFIDENCE) -> int:
    """Return how many of ``shards`` are wrong at most when ``wrong`` of ``checked`` are.

    The exact one-sided bound for draws without replacement: the largest number that would show no
    more than ``wrong`` with a chance above 1 - ``confidence``.
    """
    low, high = wrong, shards - (checked - wrong)
    while low < high:
        middle = (low + high + 1) // 2
        if _chance_of_at_most(wrong, middle, shards, checked) > 1 - confidence:
            low = middle
        else:
            high = middle - 1
    return low


def _chance_of_at_most(found: int, wrong: int, shards: int, checked: int) -> float:
    """Chance that a draw of ``checked`` holds no more than ``found`` of the ``wrong`` ones."""
    total = _log_choose(shards, checked)
    ways = (
        _log_choose(wrong, i) + _log_choose(shards - wrong, checked - i) - total
        for i in range(max(0, checked - (shards - wrong)), min(found, wrong) + 1)
    )
    return math.fsum(map(math.exp, ways))


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
