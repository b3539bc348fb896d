"""Originals beside their protected copies, as a picture."""

import math
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np

from ..data import storage
from ..data.captions import DEFAULT_FIELDS, read_captions, without_trigger
from ..data.images import Pixels, decode, image_member
from ..data.manifest import ManifestRow, manifest_url, read_manifest
from ..data.plan import ShardInput, resolve_input
from ..data.record import find_record
from ..data.shards import Sample, open_shard
from ..errors import UsageError, ViolationError
from ..plotting import INK, TRIGGER, new_figure, png

GAIN = 16
_COLUMNS = 8


@dataclass(frozen=True)
class Comparison:
    """One sample before and after; pixels are uint8 [H, W, 3]."""

    before: Pixels
    after: Pixels
    caption: str
    trigger: str

    def difference(self, gain: int = GAIN) -> Pixels:
        """Return the change times ``gain`` around mid-grey."""
        change = self.after.astype(np.int32) - self.before.astype(np.int32)
        return np.asarray((128 + gain * change).clip(0, 255), dtype=np.uint8)

    @cached_property
    def flip(self) -> float | None:
        """How much an eye sees of the change: mean FLIP at 67 pixels a degree, 0 for nothing to 1.

        None without the extra ``flip``. Source: Andersson et al., HPG 2020.
        """
        try:
            from flip_evaluator import evaluate
        except ImportError:
            return None
        before, after = (one.astype(np.float32) / 255 for one in (self.before, self.after))
        return float(evaluate(before, after, "LDR", applyMagma=False)[1])


def contact_sheet(before: str, after: str, url: str, *, count: int = 6) -> None:
    """Write a PNG of originals, protected copies and their differences, with the captions beneath.

    Args:
        before: URL of the input shards.
        after: URL of the folder that `protect` wrote; its record tells the triggers.
        url: where the PNG is written.
        count: samples shown, spread over the first shard.

    Raises:
        UsageError: no protected sample in the first shard, or matplotlib is not installed.
    """
    storage.write_bytes(url, sheet_png(comparisons(before, after, count)))


def sheet_png(shown: Sequence[Comparison]) -> bytes:
    """Return the contact sheet of at least one sample as a PNG, ``_COLUMNS`` samples in a line.

    Raises:
        UsageError: matplotlib is not installed.
    """
    columns = min(len(shown), _COLUMNS)
    lines = math.ceil(len(shown) / columns)
    figure = new_figure(0.9 + 1.75 * columns, 6.6 * lines)
    heights = [1, 1, 1, 0.62] * lines
    axes = figure.subplots(4 * lines, columns, squeeze=False, height_ratios=heights)
    largest = max(int(np.abs(s.after.astype(int) - s.before.astype(int)).max()) for s in shown)
    titles = ("original", "protected", f"difference\nx {GAIN}\n(at most ±{largest})")
    for place in range(lines * columns):
        line, column = divmod(place, columns)
        cells = axes[4 * line : 4 * line + 4, column]
        if place >= len(shown):
            for axis in cells:
                axis.set_axis_off()
            continue
        sample = shown[place]
        for row, pixels in enumerate((sample.before, sample.after, sample.difference())):
            _show(cells[row], pixels, titles[row] if column == 0 else "")
        _write_caption(cells[3], sample)
        if column == 0:
            cells[3].set_ylabel(
                "published\ncaption", rotation=0, ha="right", va="top", y=0.98, color=INK
            )
    return png(figure, dpi=130)


def comparisons(before: str, after: str, count: int) -> list[Comparison]:
    """Return up to ``count`` protected samples, evenly spread over the first shard.

    Raises:
        UsageError: there is none.
    """
    shard = resolve_input(before)[0]
    try:
        manifest, _ = read_manifest(manifest_url(find_record(after), shard.name))
    except (OSError, ViolationError) as error:
        raise UsageError(
            f"{after} holds no manifest of the shard {shard.name} ({error})"
        ) from error
    rows = [row for row in manifest if row.status == "protected"]
    if not rows or count < 1:
        raise UsageError(f"{after}: the shard {shard.name} holds no protected sample to show")
    wanted = {
        rows[i].key: rows[i] for i in np.linspace(0, len(rows) - 1, count).round().astype(int)
    }
    originals = _pick(shard, wanted)
    published = _pick(ShardInput(shard.name, storage.join(after, f"{shard.name}.tar")), wanted)
    return [
        compare(one, other, wanted[one.key])
        for one, other in zip(originals, published, strict=True)
    ]


def _pick(shard: ShardInput, wanted: dict[str, ManifestRow]) -> list[Sample]:
    with open_shard(shard.url) as reader:
        found: Iterator[Sample] = (sample for sample in reader if sample.key in wanted)
        return list(islice(found, len(wanted)))


def compare(
    before: Sample, after: Sample, row: ManifestRow, fields: Sequence[str] = DEFAULT_FIELDS
) -> Comparison:
    """Decode a sample and its published copy; ``fields`` hold captions in a .json member."""
    return Comparison(
        before=decode(image_member(before, several=True).data).pixels,
        after=decode(image_member(after, several=True).data).pixels,
        caption=read_captions(after, fields)[0],
        trigger=row.trigger_text or "",
    )


def _show(axis: Any, pixels: Pixels, title: str) -> None:
    axis.imshow(pixels, interpolation="nearest" if max(pixels.shape) < 128 else "antialiased")
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_color("#c7c7cc")
    if title:
        axis.set_ylabel(title, rotation=0, ha="right", va="center", color=INK)


def _write_caption(axis: Any, sample: Comparison) -> None:
    for spine in axis.spines.values():
        spine.set_visible(False)
    axis.set_xticks([])
    axis.set_yticks([])
    content = without_trigger(sample.caption, sample.trigger)
    trigger = textwrap.wrap(sample.trigger, 20)[:4]
    rest = textwrap.shorten(content, 72, placeholder=" …")
    # Captions are text: a dollar sign in one begins no formula.
    text = {"ha": "center", "va": "top", "fontsize": 8.5, "parse_math": False}
    text["transform"] = axis.transAxes
    axis.text(0.5, 0.98, "\n".join(trigger), color=TRIGGER, fontweight="bold", **text)
    blank = "\n" * len(trigger)
    axis.text(0.5, 0.98, blank + "\n".join(textwrap.wrap(rest, 20)), color=INK, **text)
