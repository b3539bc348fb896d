"""Write the pages of tables/ from the CSV files: ``python docs/results/make_tables.py``."""

from __future__ import annotations

import csv
from pathlib import Path
from statistics import fmean

from unlearnable.pipeline.evaluate.results import DIRECTIONS, Results, Spread
from unlearnable.pipeline.evaluate.results_csv import read_victims
from unlearnable.pipeline.evaluate.tables import markdown_rows, markdown_table
from unlearnable.pipeline.evaluate.threats import threat_table
from unlearnable.pipeline.plotting import INK, SOFT, new_figure, png

HERE = Path(__file__).parent
FILES = {
    "photos": "photos.csv",
    "photos-224": "photos-224.csv",
    "robustness": "robustness.csv",
    "robustness-sweep": "robustness.csv",
    "robustness-trials": "robustness.csv",
    "robustness-tiles": "robustness.csv",
    "openmoji": "openmoji.csv",
    "openmoji-today": "openmoji.csv",
    "openmoji-attacks": "openmoji.csv",
    "openmoji-trials": "openmoji.csv",
    "rn50": "rn50.csv",
}
"""The file of each command that has a page here; `paper` writes the pages of its tables itself."""


def commands() -> dict[str, tuple[str, str]]:
    """Return title and command of each id in commands.csv."""
    with (HERE / "commands.csv").open(encoding="utf-8", newline="") as file:
        return {line["id"]: (line["title"], line["command"]) for line in csv.DictReader(file)}


def page(command: str) -> str:
    """Return the page of one command: what was run, and its victims."""
    title, lines = commands()[command]
    results = Results(tuple(read_victims(str(HERE / FILES[command]), command)))
    protocols = {str(cell.config | {"seed": None}) for cell in results.cells}
    table = markdown_table(results)
    if len(protocols) > 1:
        rows = "\n".join(markdown_rows(results))
        table = f"The settings of each row stand in the file.\n\n{rows}\n"
    return (
        f"# {title}\n\nThe victims: `{FILES[command]}`, command `{command}`.\n\n"
        f"<!-- not run: takes hours -->\n```sh\n{lines}\n```\n\n{table}"
    )


THREATS = ("photos-224.csv", "photos-224", "default")
"""File, command and protected corpus of the threat table in docs/withstands.md."""
START, END = "<!-- threats: written by docs/results/make_tables.py -->", "<!-- end of threats -->"


def threats() -> str:
    """Return the threat table, by who attacks."""
    file, command, protected = THREATS
    results = Results(tuple(read_victims(str(HERE / file), command)))
    return f"{START}\n\n{threat_table(results, protected)}\n\n{END}"


STRENGTHS = {"gentle": "gentle", "balanced": "balanced", "strong": "default"}
"""Row of each line of visibility.csv in photos-224.csv."""
_SEEN = ("psnr_mean", "ssim_mean", "ssim_worst", "flip_mean", "flip_p99")


def visibility() -> list[dict[str, str]]:
    """Return the lines of visibility.csv."""
    with (HERE / "visibility.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def strengths(results: Results) -> str:
    """Return the page that sets what a copy teaches beside what can be seen of it."""
    title, lines = commands()["visibility"]
    rows = []
    for seen in visibility():
        row = STRENGTHS.get(seen["strength"])
        told = ["not measured"] * 2 if row is None else _told(_hits(results, row))
        rows.append([seen["strength"], *told, *(seen[name] for name in _SEEN)])
    rows.append(["originals", *_told(_hits(results, "clean")), *[""] * len(_SEEN)])
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"""# {title}

Hit@10 in %, best epoch, of [victims of the copies](photos-224.md). PSNR (dB) and SSIM of all 6,091
pictures, FLIP of 300: the mean, and what 99 of 100 pictures stay below.

<!-- not run: needs the copies of photos-224 -->
```sh
{lines}
```

| strength | image to text | text to image | PSNR | SSIM | worst SSIM | FLIP | FLIP, 99 of 100 |
|---|---:|---:|---:|---:|---:|---:|---:|
{table}

![Hit@10 by FLIP](../strengths.png)
"""


def _told(hits: list[Spread]) -> list[str]:
    return [f"{hit.mean:.1f} ± {hit.deviation:.1f}" for hit in hits]


def _hits(results: Results, row: str) -> list[Spread]:
    """Return Hit@10 of a row at its best epoch, image to text and text to image."""
    return [results.aggregate(row, "best", direction)["hit10"] for direction in DIRECTIONS]


def draw_strengths(results: Results) -> bytes:
    """Return the plot of that page: Hit@10, mean of both directions, by mean FLIP."""
    figure = new_figure(6, 4)
    axis = figure.subplots()
    for seen in visibility():
        if seen["strength"] not in STRENGTHS:
            continue
        hits, x = _hits(results, STRENGTHS[seen["strength"]]), float(seen["flip_mean"])
        y, spread = fmean(hit.mean for hit in hits), fmean(hit.deviation for hit in hits)
        axis.errorbar(x, y, spread, fmt="o", color=INK, capsize=3)
        axis.annotate(seen["strength"], (x, y), (8, 4), textcoords="offset points", color=INK)
    clean = fmean(hit.mean for hit in _hits(results, "clean"))
    for label, y in (("chance", results.chance.i2t.hit10), ("originals", clean)):
        axis.axhline(y, color=SOFT, linestyle="dashed")
        axis.annotate(label, (0, y), (2, 3), textcoords="offset points", color=SOFT)
    axis.set_xlim(0, 0.22)
    axis.set_ylim(0, None)
    axis.set_xlabel("what an eye sees: mean FLIP")
    axis.set_ylabel("what a model learns: Hit@10, %")
    return png(figure, 130)


def main() -> None:
    """Write every page, and the threat table."""
    page_of_threats = HERE.parent / "withstands.md"
    text = page_of_threats.read_text(encoding="utf-8")
    before, after = text.partition(START)[0], text.partition(END)[2]
    page_of_threats.write_text(before + threats() + after, encoding="utf-8")
    results = Results(tuple(read_victims(str(HERE / "photos-224.csv"), "photos-224")))
    (HERE / "tables" / "strengths.md").write_text(strengths(results), encoding="utf-8")
    (HERE / "strengths.png").write_bytes(draw_strengths(results))
    for command in FILES:
        (HERE / "tables" / f"{command}.md").write_text(page(command), encoding="utf-8")


if __name__ == "__main__":
    main()
