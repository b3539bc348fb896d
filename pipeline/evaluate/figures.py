"""Pictures of an evaluation: retrieval by epoch, and under each attack."""

from typing import Any

import numpy as np

from ..data import storage
from ..plotting import INK, SOFT, new_figure, png
from .results import DIRECTIONS, Results, direction_of

_COLOURS = ("#1b6ca8", "#d1495b", "#3a7d44", "#e28413", "#6a4c93", "#00798c", "#7f5539", "#5c677d")
_MARKERS = "osD^vP*X"
_ATTACK_COLOURS = {"i2t": "#1b6ca8", "t2i": "#d1495b"}


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
        axis.set_title(DIRECTIONS[direction].capitalize(), loc="left", fontsize=11, color=INK)
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
            color=_ATTACK_COLOURS[direction],
            label=DIRECTIONS[direction],
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
    storage.write_bytes(url, png(figure, dpi=150))


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
