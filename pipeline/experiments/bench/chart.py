"""A chart of the bench: how far each goal is reached, and the driver by number of shards."""

from typing import Any

from ...data import storage
from ...plotting import new_figure, png
from .record import Figure, read_latest

_BAR, _SHORT, _SOFT = "#3a7d44", "#d1495b", "#6e6e73"

# Section, part of the case, metric: goal, and whether more is better.
GOALS: dict[tuple[str, str, str], tuple[float, bool]] = {
    ("method", "paper / default", "fit spread over 30000"): (12, True),
    ("method", "default, protect", "image passes a sample"): (12, False),
    ("io", "8 steps", "lost to everything else"): (0.05, False),
    ("limit", "8 steps", "share of the limit"): (0.85, True),
    ("kernels", "pgd_step bfloat16", "share of copy bandwidth"): (0.8, True),
    ("kernels", "pgd_step bfloat16", "speed-up over reference"): (5, True),
    ("kernels", "hotflip_topk 256x5x49408", "speed-up over reference"): (1, True),
    ("workers", "2 / 1", "speed-up"): (1.8, True),
    ("driver", "local, 100000", "rate"): (300, True),
    ("driver", "ray, 100000", "rate"): (300, True),
    ("driver", "local, 100000", "memory growth"): (50, False),
    ("driver", "ray, 100000", "memory growth"): (50, False),
}


def against_goals(figures: list[Figure]) -> list[tuple[Figure, float, float]]:
    """Return the figures that have a goal, with the goal and how far it is reached (1: just)."""
    found = []
    # On a CPU a kernel is its reference: there is nothing to reach.
    gpu = any(figure.metric == "share of copy bandwidth" for figure in figures)
    for figure in figures:
        if figure.section == "kernels" and not gpu:
            continue
        for (section, case, metric), (goal, more) in GOALS.items():
            fits = figure.section == section and figure.metric == metric
            if fits and case in figure.case:
                least = max(figure.value, goal * 1e-3)
                reached = figure.value / goal if more else goal / least
                found.append((figure, goal, reached))
    return found


def draw(record: str, url: str) -> None:
    """Write a PNG of the newest figures in the CSV file ``record``.

    Raises:
        UsageError: matplotlib is not installed.
    """
    figures, devices = read_latest(record)
    goals = against_goals(figures)
    driver = [f for f in figures if f.section == "driver"]
    canvas = new_figure(12, max(3.2, 0.36 * len(goals) + 1.4))
    canvas.suptitle(f"unlearnable bench: {devices}", fontsize=10, color=_SOFT)
    left, right = canvas.subplots(1, 2, width_ratios=[1.7, 1])
    _draw_goals(left, goals)
    _draw_driver(right, driver)
    storage.write_bytes(url, png(canvas, 130))


def _draw_goals(axis: Any, goals: list[tuple[Figure, float, float]]) -> None:
    labels = [f"{f.case}: {f.metric}" for f, _, _ in goals]
    reached = [min(r, 100.0) for _, _, r in goals]
    colours = [_BAR if r >= 1 else _SHORT for r in reached]
    axis.barh(range(len(goals)), reached, color=colours)
    axis.set_yticks(range(len(goals)), labels, fontsize=8)
    axis.invert_yaxis()
    axis.set_xscale("log")
    axis.axvline(1, color=_SOFT, linewidth=1)
    for place, (figure, goal, _) in enumerate(goals):
        text = f" {figure.value:.3g} (goal {goal:g}) {figure.unit}"
        axis.annotate(text, (reached[place], place), va="center", fontsize=7)
    axis.margins(x=0.35)
    axis.set_title("Figures against their goals (right of the line: reached)", fontsize=10)


def _draw_driver(axis: Any, driver: list[Figure]) -> None:
    for executor, marker in (("local", "o"), ("ray", "s")):
        points = sorted(
            (int(f.case.split()[1]), f.value)
            for f in driver
            if f.case.startswith(executor) and f.metric == "rate"
        )
        if points:
            axis.plot(*zip(*points, strict=True), marker=marker, label=executor)
    axis.set_xscale("log")
    axis.set_ylim(bottom=0)
    axis.set_xlabel("shards without work")
    axis.set_title("Plan and driver, shards/s", fontsize=10)
    if driver:
        axis.legend(frameon=False)
