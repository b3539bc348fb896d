"""Captions from another source: nothing of the published text is left."""

from ..pairs import Pairs, matching
from .inputs import Inputs


def run(pairs: Pairs, inputs: Inputs) -> list[list[str]]:
    """Give every image the human captions that the unprotected corpus has for it.

    Raises:
        UsageError: an image that the unprotected corpus does not have.
    """
    clean = inputs.clean
    return [list(clean.captions[row]) for row in matching(pairs, clean)]
