"""Pictures of a protection: retrieval by epoch, and originals beside their protected copies."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from ..data import storage
from ..data.captions import DEFAULT_FIELDS, read_captions
from ..data.images import Pixels, decode, image_member
from ..data.manifest import ManifestRow, manifest_url, read_manifest
from ..data.plan import ShardInput, resolve_input
from ..data.shards import Sample, open_shard
from ..errors import UsageError, ViolationError
from ..evaluate.results import DIRECTIONS, Results, direction_of

_COLOURS = ("#1b6ca8", "#d1495b", "#3a7d44", "#e28413", "#6a4c93", "#00798c", "#7f5539", "#5c677d")
_MARKERS = "osD^vP*X"
_TITLES = {"i2t": "Image to text", "t2i": "Text to image"}
GAIN = 16
_COLUMNS = 8
INK, SOFT = "#1d1d1f", "#6e6e73"


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


def plot_curves(results: Results, url: str) -> None:
    """Write a PNG of Hit@10 by epoch: a line a corpus, a band of one deviation over seeds, chance.

    Raises:
        UsageError: matplotlib is not installed.
    """
    figure = new_figure(9.6, 4.0)
    axes = figure.subplots(1, 2, sharey=True)
    for axis, direction in zip(axes, DIRECTIONS, strict=True):
        for number, name in enumerate(results.names):
            _draw_curve(axis, results, name, direction, number)
        level = direction_of(results.chance, direction).hit10
        axis.axhline(level, color=SOFT, linestyle="--", linewidth=1.2)
        axis.annotate(
            f"chance {level:.1f}",
            (1.0, level),
            xycoords=("axes fraction", "data"),
            xytext=(-4, 3),
            textcoords="offset points",
            ha="right",
            color=SOFT,
            fontsize=9,
        )
        axis.set_title(_TITLES[direction], loc="left", fontsize=11, color=INK)
        axis.set_xlabel("epoch")
        axis.set_ylim(bottom=0)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", color="#e5e5ea", linewidth=0.8)
        axis.set_axisbelow(True)
    axes[0].set_ylabel("Hit@10 on clean test pairs, %")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside upper center", ncols=min(6, len(labels)), frameon=False
    )
    storage.write_bytes(url, png(figure, dpi=150))


def contact_sheet(before: str, after: str, url: str, *, count: int = 6) -> None:
    """Write a PNG of originals, protected copies and their differences, with the captions beneath.

    Args:
        before: URL of the input shards.
        after: URL of the folder that `protect` wrote; its manifests tell the triggers.
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
        manifest, _ = read_manifest(manifest_url(after, shard.name))
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
        before=decode(image_member(before).data).pixels,
        after=decode(image_member(after).data).pixels,
        caption=read_captions(after, fields)[0],
        trigger=row.trigger_text or "",
    )


def _draw_curve(axis: Any, results: Results, name: str, direction: str, number: int) -> None:
    cells = results.of(name)
    epochs = [point.epoch for point in cells[0].curve]
    hits = np.array(
        [[direction_of(p.retrieval, direction).hit10 for p in cell.curve] for cell in cells]
    )
    mean = hits.mean(axis=0)
    colour = _COLOURS[number % len(_COLOURS)]
    marker = _MARKERS[number % len(_MARKERS)]
    axis.plot(epochs, mean, color=colour, marker=marker, markersize=4.5, linewidth=2, label=name)
    if len(cells) > 1:
        deviation = hits.std(axis=0, ddof=1)
        axis.fill_between(
            epochs, mean - deviation, mean + deviation, color=colour, alpha=0.15, linewidth=0
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
    content = sample.caption
    if sample.trigger and content.startswith(sample.trigger):
        content = content[len(sample.trigger) :].strip()
    trigger = textwrap.wrap(sample.trigger, 20)[:4]
    rest = textwrap.shorten(content, 72, placeholder=" …")
    # Captions are text: a dollar sign in one begins no formula.
    text = {"ha": "center", "va": "top", "fontsize": 8.5, "parse_math": False}
    text["transform"] = axis.transAxes
    axis.text(0.5, 0.98, "\n".join(trigger), color="#b3261e", fontweight="bold", **text)
    blank = "\n" * len(trigger)
    axis.text(0.5, 0.98, blank + "\n".join(textwrap.wrap(rest, 20)), color=INK, **text)


def require_matplotlib() -> None:
    """Refuse early what could only fail after hours of work. Raises UsageError."""
    new_figure(1, 1)


def new_figure(width: float, height: float) -> Any:
    """Return an empty figure, inches; it belongs to no window and no global state."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError("pictures need matplotlib: install unlearnable[demo]") from error
    return Figure(figsize=(width, height), layout="constrained")


def png(figure: Any, dpi: int) -> bytes:
    """Return a figure as a PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()
