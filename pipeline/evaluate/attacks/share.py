"""Corpora of which only a part is protected."""

import numpy as np
import numpy.typing as npt

from ...errors import UsageError
from ...seeds import derive_seed
from ..pairs import Pairs, blocks, matching, with_pixels
from .inputs import Inputs


def run(pairs: Pairs, inputs: Inputs) -> Pairs:
    """Protect a share of the samples; of the unprotected corpus keep the rest alone."""
    if inputs.is_rest:
        return rest_of_share(pairs, inputs.value, inputs.path, inputs.seed)
    return share(pairs, inputs.clean, inputs.value, inputs.path, inputs.seed)


def share(pairs: Pairs, clean: Pairs, percent: float, path: str, seed: int) -> Pairs:
    """Keep ``percent`` of the protected samples and put back the others' originals.

    A smaller share keeps a part of what a larger one keeps.
    """
    kept = _kept(pairs.keys, percent, seed)
    originals = matching(pairs, clean)
    before = clean.images()

    def mixed(rows: npt.NDArray[np.int64], pixels: npt.NDArray[np.uint8]) -> np.ndarray:
        return np.where(kept[rows, None, None, None], pixels, before[originals[rows]])

    captions = [
        texts if keep else clean.captions[row]
        for texts, keep, row in zip(pairs.captions, kept, originals, strict=True)
    ]
    pixels = (mixed(rows, found) for rows, found in blocks(pairs))
    return with_pixels(pairs, path, pixels, captions=captions)


def rest_of_share(clean: Pairs, percent: float, path: str, seed: int) -> Pairs:
    """Return the originals that :func:`share` puts back, alone: the control beside it.

    Raises:
        UsageError: nothing would be left.
    """
    kept = _kept(clean.keys, percent, seed)
    if kept.all():
        raise UsageError(f"a share of {percent:g} % leaves nothing of {len(clean)} samples")
    left = np.flatnonzero(~kept)
    pixels = (found[~kept[rows]] for rows, found in blocks(clean))
    return with_pixels(
        clean,
        path,
        pixels,
        captions=[clean.captions[row] for row in left],
        keys=[clean.keys[row] for row in left],
    )


def _kept(keys: list[str], percent: float, seed: int) -> npt.NDArray[np.bool_]:
    order = sorted(range(len(keys)), key=lambda row: derive_seed("share", seed, keys[row]))
    kept = np.zeros(len(keys), dtype=np.bool_)
    kept[order[: round(len(keys) * percent / 100)]] = True
    return kept
