"""The pattern of each trigger word, estimated from leaked originals and subtracted."""

from ..pairs import Pairs
from .averaging import average_leaked
from .inputs import Inputs


def run(pairs: Pairs, inputs: Inputs) -> Pairs:
    """Subtract what the differences from leaked originals give away."""
    words, epsilon = inputs.trigger
    return average_leaked(
        pairs,
        inputs.clean,
        inputs.path,
        words=words,
        epsilon=epsilon,
        count=round(inputs.value),
        seed=inputs.seed,
    )
