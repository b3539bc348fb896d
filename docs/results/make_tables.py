"""Write the pages of tables/ from the CSV files: ``python docs/results/make_tables.py``."""

from __future__ import annotations

import csv
from pathlib import Path

from unlearnable.pipeline.evaluate.results import Results
from unlearnable.pipeline.evaluate.results_csv import read_victims
from unlearnable.pipeline.evaluate.tables import markdown_rows, markdown_table
from unlearnable.pipeline.evaluate.threats import threat_table

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


THREATS = ("robustness.csv", "robustness", "published224")
"""File, command and protected corpus of the threat table in docs/withstands.md."""
START, END = "<!-- threats: written by docs/results/make_tables.py -->", "<!-- end of threats -->"


def threats() -> str:
    """Return the threat table, by who attacks."""
    file, command, protected = THREATS
    results = Results(tuple(read_victims(str(HERE / file), command)))
    return f"{START}\n\n{threat_table(results, protected)}\n\n{END}"


def main() -> None:
    """Write every page, and the threat table."""
    page_of_threats = HERE.parent / "withstands.md"
    text = page_of_threats.read_text(encoding="utf-8")
    before, after = text.partition(START)[0], text.partition(END)[2]
    page_of_threats.write_text(before + threats() + after, encoding="utf-8")
    for command in FILES:
        (HERE / "tables" / f"{command}.md").write_text(page(command), encoding="utf-8")


if __name__ == "__main__":
    main()
