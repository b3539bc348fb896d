"""As ``average``, of what a blur takes away: less content to cancel out, blind to smooth casts."""

from ..pairs import Pairs
from .averaging import average
from .inputs import Inputs


def run(pairs: Pairs, inputs: Inputs) -> Pairs:
    """Subtract what the fine parts of the published pictures give away."""
    return average(pairs, inputs.path, *inputs.trigger, highpass=True)
