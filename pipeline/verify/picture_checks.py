"""Checks of what a published picture has beside its pixel values: colour, rights, pictures."""

from collections.abc import Iterator
from dataclasses import fields

import numpy as np

from ..data.images import Decoded, decode, encode
from ..data.metadata import NOTES, SHOWING, edited, published_metadata
from ..data.xmp import Edits
from ..errors import SampleError

Problem = tuple[str, str]
"""Code and message of a violation."""


def unreadable(error: SampleError) -> Problem:
    """Return the violation for a published sample without exactly one picture that decodes."""
    if error.reason == "several_images":
        return "image_unprotected", str(error)
    return "image_unreadable", str(error)


def check_shown(published: Decoded) -> Iterator[Problem]:
    """Look for what shows the original in the file of a published picture."""
    _, notes = edited(published.kept)
    for note in sorted(set(SHOWING) & (notes | published.notes)):
        yield "original_shown", NOTES[note].replace("was dropped", "is in the file")


def check_beside_pixels(
    original: Decoded, published: Decoded, fmt: str, edits: Edits
) -> Iterator[Problem]:
    """Compare everything but the pixel values of a picture with the original's.

    Args:
        original: as decoded.
        published: as decoded.
        fmt: format of the published file.
        edits: what the run changes in metadata.
    """
    try:
        wanted, _ = published_metadata(original.kept, fmt, edits, grey=original.grey)
    except SampleError as error:
        yield "colour_changed", str(error)
        return
    # What a file of this format says when it is read again.
    small = encode(np.zeros((1, 1) if original.grey else (1, 1, 3), np.uint8), fmt, None, wanted)
    expected = decode(small).kept
    if published.kept.colour != expected.colour:
        yield "colour_changed", "the profile or the colour chunks are not the original's"
    # WebP and AVIF hold no single channel, and AVIF rounds.
    one_channel = fmt in ("png", "jpeg") and published.grey != original.grey
    if one_channel or (fmt != "avif" and _is_grey(original) and not _is_grey(published)):
        yield "colour_changed", "a grey picture became one in colour, or the other way round"
    if fmt != "jpeg" and not _same_alpha(original, published, fmt):
        yield "colour_changed", "the transparency is not the original's"
    for item in fields(expected):
        if item.name == "icc":
            continue
        if getattr(published.kept, item.name) != getattr(expected, item.name):
            yield "rights_changed", f"{item.name} is not what the original and the settings give"


def _is_grey(picture: Decoded) -> bool:
    values = picture.values
    return bool((values[..., :1] == values).all())


def _same_alpha(original: Decoded, published: Decoded, fmt: str) -> bool:
    if original.alpha is None or published.alpha is None:
        return original.alpha is published.alpha
    return fmt == "avif" or np.array_equal(original.alpha, published.alpha)
