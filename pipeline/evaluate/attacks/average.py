"""The pattern of each trigger word, estimated as its mean picture and subtracted."""

from ..pairs import Pairs
from .averaging import average
from .inputs import Inputs


def run(pairs: Pairs, inputs: Inputs) -> Pairs:
    """Subtract what the published pictures themselves give away."""
    return average(pairs, inputs.path, *inputs.trigger)
