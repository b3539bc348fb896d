"""The first words of every caption are dropped."""

from ..pairs import Pairs
from .inputs import Inputs


def run(pairs: Pairs, inputs: Inputs) -> list[list[str]]:
    """Remove as many words as a trigger has; a caption that has no more becomes empty."""
    count = inputs.trigger.words

    def rest(text: str) -> str:
        parts = text.split(maxsplit=count)
        return parts[count] if len(parts) > count else ""

    return [[rest(text) for text in texts] for texts in pairs.captions]
