"""The picture of a table: dots with their spread, or a heat map of surrogate against victim."""

import math
from typing import Any

from ...evaluate.results import DIRECTIONS, Results, direction_of
from ...plotting import INK, SOFT, new_figure, png

_TITLES = {"i2t": "image to text", "t2i": "text to image"}
_ARROW = " -> "


def draw(table: str, results: Results) -> bytes:
    """Return the PNG of a table. Raises UsageError when matplotlib is not installed."""
    return _heat_map(results) if table == "transfer" else _dots(results)


def _dots(results: Results) -> bytes:
    names = results.names
    figure = new_figure(9.6, 1.3 + 0.32 * len(names))
    axes = figure.subplots(1, 2, sharey=True, sharex=True)
    inputs = list(range(len(names)))
    for axis, direction in zip(axes, DIRECTIONS, strict=True):
        for epoch, colour, shift in (("last", "#1b6ca8", -0.12), ("best", "#e28413", 0.12)):
            found = [results.aggregate(name, epoch, direction)["hit10"] for name in names]
            axis.errorbar(
                [value.mean for value in found],
                [place + shift for place in inputs],
                xerr=[value.deviation for value in found],
                fmt="o",
                markersize=4.5,
                color=colour,
                label=f"{epoch} epoch",
            )
        level = direction_of(results.chance, direction).hit10
        axis.axvline(level, color=SOFT, linestyle="--", linewidth=1.2, label="chance")
        axis.set_title(_TITLES[direction], loc="left", fontsize=11, color=INK)
        axis.set_xlabel("Hit@10 on clean test pairs, %")
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="x", color="#e5e5ea", linewidth=0.8)
        axis.set_axisbelow(True)
    axes[0].set_xlim(left=0)
    axes[0].set_yticks(inputs, names)
    axes[0].invert_yaxis()
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False)
    return png(figure, dpi=150)


def _heat_map(results: Results) -> bytes:
    """Draw Hit@10 at the last epoch, one map a direction: what was published, and the victim."""
    cells = {tuple(name.split(_ARROW)): name for name in results.names}
    rows = list(dict.fromkeys(made for made, _ in cells))
    columns = list(dict.fromkeys(victim.split(" (")[0] for _, victim in cells))
    figure = new_figure(4.2 + 2.2 * len(columns), 1.6 + 0.5 * len(rows))
    axes = figure.subplots(1, 2, sharey=True)
    for axis, direction in zip(axes, DIRECTIONS, strict=True):
        values = [[float("nan")] * len(columns) for _ in rows]
        for (made, victim), name in cells.items():
            value = results.aggregate(name, "last", direction)["hit10"].mean
            values[rows.index(made)][columns.index(victim.split(" (")[0])] = value
        _map(figure, axis, values)
        level = direction_of(results.chance, direction).hit10
        title = f"{_TITLES[direction]}, Hit@10 in % (chance {level:.1f})"
        axis.set_title(title, loc="left", fontsize=10, color=INK)
        axis.set_xticks(range(len(columns)), columns)
        axis.set_yticks(range(len(rows)), rows)
        axis.set_xlabel("victim")
    return png(figure, dpi=150)


def _map(figure: Any, axis: Any, values: list[list[float]]) -> None:
    known = [value for row in values for value in row if not math.isnan(value)]
    shown = axis.imshow(values, cmap="viridis", aspect="auto", vmin=0, vmax=max(known))
    figure.colorbar(shown, ax=axis, shrink=0.8)
    for row, line in enumerate(values):
        for column, value in enumerate(line):
            if not math.isnan(value):
                colour = "white" if value < 0.6 * max(known) else "black"
                axis.text(column, row, f"{value:.1f}", ha="center", va="center", color=colour)
