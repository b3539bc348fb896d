"""A picture for people: samples before and after protection, and the difference made visible."""

from __future__ import annotations

import random
import textwrap
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..pipeline.data.captions import read_captions
from ..pipeline.data.images import Pixels, decode, image_member
from ..pipeline.data.plan import resolve_input
from ..pipeline.data.shards import open_shard
from ..pipeline.errors import SampleError, UsageError

_AMPLIFY = 12
_READ = 512


class _Shown(NamedTuple):
    pixels: Pixels
    caption: str


def save_picture(before: str, after: str, path: Path, *, seed: int = 0, count: int = 6) -> None:
    """Draw samples of the first shard: as they were, as published, and ``difference * 12 + 128``.

    Args:
        before: URL of the shards that were protected.
        after: URL of the protected copy.
        path: the PNG to write.
        seed: of the choice among the first 512 samples.
        count: samples to show.

    Raises:
        UsageError: matplotlib is missing, or nothing can be shown.
    """
    shard = resolve_input(before)[0]
    originals = _read(shard.url)
    published = _read(f"{after.rstrip('/')}/{shard.name}.tar")
    common = sorted(originals.keys() & published.keys())
    if not common:
        raise UsageError(f"{before} and {after} share no sample in the shard {shard.name}")
    keys = random.Random(seed).sample(common, min(count, len(common)))
    _draw([(originals[key], published[key]) for key in keys], path)


def _read(url: str) -> dict[str, _Shown]:
    found: dict[str, _Shown] = {}
    with open_shard(url) as reader:
        for sample in islice(reader, _READ):
            try:
                pixels = decode(image_member(sample).data).pixels
                found[sample.key] = _Shown(pixels, read_captions(sample)[0])
            except SampleError:
                continue  # quarantined samples have no counterpart to be shown beside
    return found


def _draw(pairs: list[tuple[_Shown, _Shown]], path: Path) -> None:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError("pictures need matplotlib: pip install 'unlearnable[demo]'") from error
    figure = Figure(figsize=(1.9 * len(pairs), 6.6), layout="constrained")
    for column, (old, new) in enumerate(pairs):
        change = new.pixels.astype(np.int16) - old.pixels
        visible = np.clip(change * _AMPLIFY + 128, 0, 255).astype(np.uint8)
        for row, pixels in enumerate((old.pixels, new.pixels, visible)):
            axes = figure.add_subplot(3, len(pairs), row * len(pairs) + column + 1)
            axes.imshow(pixels, interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
            name = ("as it was", "as published", f"difference x {_AMPLIFY}")[row]
            if column == 0:
                axes.set_ylabel(name)
            caption = (old.caption, new.caption, f"max {np.abs(change).max()} of 255 levels")[row]
            axes.set_xlabel("\n".join(textwrap.wrap(caption, 24)[:3]), fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
