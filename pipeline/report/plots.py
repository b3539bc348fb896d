"""Plots as SVG inside a page: they take its colours, so one plot serves light and dark."""

import io
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from markupsafe import Markup

from ..evaluate.results import DIRECTIONS, Results, direction_of
from ..plotting import new_figure
from .tally import Histogram

# Colours that nothing else has, each replaced by a variable of the page's style sheet.
_INK, _SOFT, _GRID, _FIRST, _SECOND = "#010101", "#020202", "#030303", "#040404", "#050505"
_VARIABLES = {
    _INK: "var(--ink)",
    _SOFT: "var(--soft)",
    _GRID: "var(--line)",
    _FIRST: "var(--first)",
    _SECOND: "var(--second)",
}
_MOST_WORDS = 24
_MOST_LETTERS = 26


def histogram(values: Histogram, label: str) -> Markup:
    """Return the plot of one distribution; ``label`` names it with its unit."""
    figure, axis = _axes()
    _fill(axis, values, _FIRST, None)
    _finish(axis, label)
    return _svg(figure, label)


def counts(values: Mapping[int, int], label: str) -> Markup:
    """Return the plot of counted whole numbers."""
    figure, axis = _axes()
    axis.bar(list(values), list(values.values()), color=_FIRST, width=0.8)
    axis.set_xlim(-0.5, max(values) + 0.5)
    axis.xaxis.get_major_locator().set_params(integer=True)
    _finish(axis, label)
    return _svg(figure, label)


def two(before: Histogram, after: Histogram, label: str) -> Markup:
    """Return the plot of a distribution before and after, over one another."""
    figure, axis = _axes()
    _fill(axis, before, _SECOND, "before")
    _fill(axis, after, _FIRST, "after")
    axis.legend(frameon=False, labelcolor=_INK)
    _finish(axis, label)
    return _svg(figure, label)


def words(found: Mapping[str, int], label: str) -> Markup:
    """Return the bars of the most frequent words."""
    shown = sorted(found.items(), key=lambda item: (-item[1], item[0]))[:_MOST_WORDS][::-1]
    figure, axis = _axes(height=0.6 + 0.19 * len(shown))
    # A word comes from captions: a dollar sign in one begins no formula.
    axis.barh(range(len(shown)), [count for _, count in shown], color=_FIRST, height=0.7)
    axis.set_yticks(range(len(shown)), [_short(word) for word, _ in shown], parse_math=False)
    axis.margins(y=0.01)
    _finish(axis, label, grid="x")
    return _svg(figure, label)


def strength(results: Results) -> Markup:
    """Return Hit@10 of each corpus, last epoch, in both directions, with chance as a line."""
    figure, axis = _axes(width=5.6, height=1.1 + 0.55 * len(results.names))
    places = np.arange(len(results.names))[::-1]
    for offset, direction, colour in zip((0.19, -0.19), DIRECTIONS, (_FIRST, _SECOND), strict=True):
        found = [results.aggregate(name, "last", direction)["hit10"] for name in results.names]
        means = [value.mean for value in found]
        error = [value.deviation for value in found]
        axis.barh(
            places + offset, means, xerr=error, height=0.36, color=colour,
            label=DIRECTIONS[direction], ecolor=_SOFT,
        )  # fmt: skip
        for place, mean, more in zip(places + offset, means, error, strict=True):
            axis.annotate(
                f"{mean:.1f}", (mean + more, place), xytext=(4, 0), textcoords="offset points",
                va="center", color=_INK, fontsize=9,
            )  # fmt: skip
    level = direction_of(results.chance, "i2t").hit10
    axis.axvline(level, color=_INK, linestyle="--", linewidth=1, label=f"chance {level:.1f}")
    axis.set_yticks(places, [_short(name) for name in results.names], parse_math=False)
    axis.margins(x=0.08)
    figure.legend(frameon=False, labelcolor=_INK, loc="outside upper left", ncols=3)
    label = "Hit@10 on clean test pictures, %"
    _finish(axis, label, grid="x")
    return _svg(figure, label)


def _short(name: str) -> str:
    """Cut a name that would leave no room for its bar."""
    return name if len(name) <= _MOST_LETTERS else f"{name[: _MOST_LETTERS - 1]}…"


def _axes(width: float = 4.4, height: float = 2.6) -> tuple[Any, Any]:
    figure = new_figure(width, height)
    figure.patch.set_alpha(0)
    axis = figure.subplots()
    axis.patch.set_alpha(0)
    return figure, axis


def _fill(axis: Any, values: Histogram, colour: str, label: str | None) -> None:
    edges, found = values.bars()
    options = {"color": colour, "label": label, "linewidth": 1.4}
    axis.stairs(found, edges, fill=True, alpha=0.35, color=colour)
    axis.stairs(found, edges, **options)


def _finish(axis: Any, label: str, grid: str = "y") -> None:
    axis.set_xlabel(label, color=_INK)
    if grid == "y":
        axis.set_ylabel("samples", color=_INK)
        axis.set_ylim(bottom=0)
        # Narrow distributions have long numbers, which would run into one another.
        axis.locator_params(axis="x", nbins=9 if np.ptp(axis.get_xlim()) >= 4 else 5)
        axis.locator_params(axis="y", nbins=6, integer=True, min_n_ticks=1)
    axis.tick_params(colors=_INK, length=0, labelsize=9)
    for side, spine in axis.spines.items():
        spine.set_color(_SOFT)
        spine.set_visible(side == ("bottom" if grid == "y" else "left"))
    axis.grid(axis=grid, color=_GRID, linewidth=0.8)
    axis.set_axisbelow(True)


def _svg(figure: Any, label: str) -> Markup:
    """Return the figure as an <svg> element that scales with its place in the page."""
    from matplotlib import rc_context

    buffer = io.StringIO()
    # Text stays text: small, sharp, found by a search in the page. A salt makes equal bytes.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": label}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, variable)
    head, rest = text.split(">", 1)
    head = re.sub(r' (width|height)="[^"]*"', "", head)
    # matplotlib escapes the text that it writes into its elements.
    name = Markup(' role="img" aria-label="{}">').format(label)
    return Markup(head) + name + Markup(rest)  # noqa: S704 - see above
