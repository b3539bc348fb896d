"""The words of every caption in a random order of its own."""

import random

from ...seeds import derive_seed
from ..pairs import Pairs
from .inputs import Inputs


def run(pairs: Pairs, inputs: Inputs) -> list[list[str]]:
    """Return the captions with their words shuffled."""

    def shuffled(text: str, key: str, number: int) -> str:
        words = text.split()
        random.Random(derive_seed("shuffle-words", inputs.seed, key, number)).shuffle(words)
        return " ".join(words)

    return [
        [shuffled(text, key, number) for number, text in enumerate(texts)]
        for key, texts in zip(pairs.keys, pairs.captions, strict=True)
    ]
