"""Attacks on captions; each returns new captions, sample by sample."""

from __future__ import annotations

import random

from ...seeds import derive_seed
from ..pairs import Pairs
from .mixing import matching

Captions = list[list[str]]


def strip_words(pairs: Pairs, count: int) -> Captions:
    """Remove the first ``count`` words of every caption; one that has no more becomes empty."""

    def rest(text: str) -> str:
        parts = text.split(maxsplit=count)
        return parts[count] if len(parts) > count else ""

    return [[rest(text) for text in texts] for texts in pairs.captions]


def shuffle_words(pairs: Pairs, seed: int) -> Captions:
    """Put the words of every caption into a random order of its own."""

    def shuffled(text: str, key: str, number: int) -> str:
        words = text.split()
        random.Random(derive_seed("shuffle-words", seed, key, number)).shuffle(words)
        return " ".join(words)

    return [
        [shuffled(text, key, number) for number, text in enumerate(texts)]
        for key, texts in zip(pairs.keys, pairs.captions, strict=True)
    ]


def replace_captions(pairs: Pairs, clean: Pairs) -> Captions:
    """Give every image the human captions that the unprotected corpus has for it.

    This stands for someone who has captions of the same pictures from another source: nothing of
    the published text is left, wherever its triggers stood.

    Raises:
        UsageError: an image that the unprotected corpus does not have.
    """
    return [list(clean.captions[row]) for row in matching(pairs, clean)]
