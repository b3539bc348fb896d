"""Draws effort.png of effort.csv: ``python docs/results/effort.py``."""

from __future__ import annotations

import csv
from pathlib import Path
from statistics import fmean

from matplotlib.figure import Figure

FOLDER = Path(__file__).parent
LABELS = {"i2t": ("image to text", "#3a7d44"), "t2i": ("text to image", "#2e5e9e")}


def main() -> None:
    """Draw one line a direction over the passes a sample, every victim as a point."""
    with (FOLDER / "effort.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    canvas = Figure(figsize=(6.4, 3.6), layout="constrained")
    axis = canvas.subplots()
    passes = sorted({float(row["image_passes"]) for row in rows})
    seeds = {
        x: {row["victim_seed"] for row in rows if float(row["image_passes"]) == x} for x in passes
    }
    # A seed that one setting lacks would move the line for no other reason than its luck.
    common = set.intersection(*seeds.values())
    paired = [row for row in rows if row["victim_seed"] in common]
    for name, (label, colour) in LABELS.items():
        points = [(float(row["image_passes"]), float(row[name])) for row in rows]
        means = [
            fmean(float(row[name]) for row in paired if float(row["image_passes"]) == x)
            for x in passes
        ]
        axis.scatter(*zip(*points, strict=True), color=colour, s=14, alpha=0.5)
        axis.plot(
            passes, means, color=colour, label=f"{label}, mean of seeds {', '.join(sorted(common))}"
        )
    axis.axhline(2.95, color="#6e6e73", linestyle=":", label="chance")
    axis.set_xscale("log", base=2)
    axis.set_xticks(passes, [f"{x:.2g}" for x in passes])
    axis.set_ylim(0, 28)
    axis.set_xlabel("forward+backward passes through the image tower a sample")
    axis.set_ylabel("Hit@10 on clean drawings, %")
    axis.legend(frameon=False, loc="upper left")
    canvas.savefig(FOLDER / "effort.png", dpi=130)


if __name__ == "__main__":
    main()
