"""A picture of what victims learn from a corpus under each attack."""

from __future__ import annotations

import io

from ..data import storage
from ..evaluate.results import DIRECTIONS, Results, direction_of
from .figures import new_figure

_COLOURS = {"i2t": "#1b6ca8", "t2i": "#d1495b"}
_LABELS = {"i2t": "image to text", "t2i": "text to image"}


def plot_attacks(results: Results, url: str) -> None:
    """Write a PNG of Hit@10 at each direction's best epoch: a line a row, chance dashed.

    Several seeds are shown by their mean and a bar of one deviation.

    Raises:
        UsageError: matplotlib is not installed.
    """
    rows = results.names
    figure = new_figure(8.4, 1.2 + 0.3 * len(rows))
    axis = figure.subplots()
    for direction, shift in zip(DIRECTIONS, (-0.12, 0.12), strict=True):
        found = [results.aggregate(name, "best", direction)["hit10"] for name in rows]
        axis.errorbar(
            [spread.mean for spread in found],
            [place + shift for place in range(len(rows))],
            xerr=[spread.deviation for spread in found],
            fmt="o",
            markersize=5,
            color=_COLOURS[direction],
            label=_LABELS[direction],
        )
        level = direction_of(results.chance, direction).hit10
        axis.axvline(level, color="#6e6e73", linestyle="--", linewidth=1)
    axis.set_yticks(range(len(rows)), rows, fontsize=9)
    axis.invert_yaxis()
    axis.set_xlim(left=0)
    axis.set_xlabel("Hit@10 on clean test pairs at the best epoch, %; dashed: chance")
    axis.grid(axis="x", color="#e5e5ea", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=9)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    storage.write_bytes(url, buffer.getvalue())
