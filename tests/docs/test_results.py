"""What the pages say was measured stands in the CSV files of docs/results."""

from __future__ import annotations

import csv
import re
import runpy
from pathlib import Path

import pytest
from doc_blocks import ROOT, Block, commands, pages

from unlearnable.jobs.cli import build_app
from unlearnable.pipeline.evaluate.results import Results, spread
from unlearnable.pipeline.evaluate.results_csv import COLUMNS, read_victims
from unlearnable.pipeline.evaluate.tables import markdown_rows

RESULTS = ROOT / "docs" / "results"
MAKER = runpy.run_path(str(RESULTS / "make_tables.py"))
FILES = [
    path
    for path in sorted(RESULTS.glob("*.csv"))
    if path.read_text().startswith(",".join(COLUMNS[:4]))
]
TABLES = ("main", "ablation", "transfer", "finetune", "faces")
# Pages that people write; the others are compared as a whole.
WRITTEN = [
    page for page in pages() if page.parent.name != "tables" and not page.name.startswith("paper-")
]
VALUE = r"(?<![\d.])\d+(?:\.\d)? ± \d+(?:\.\d)?"


def ids(path: Path) -> list[str]:
    with path.open(newline="") as file:
        return list(dict.fromkeys(line["command"] for line in csv.DictReader(file)))


def results(path: Path, command: str) -> Results:
    return Results(tuple(read_victims(str(path), command)))


@pytest.fixture(scope="module")
def measured() -> set[str]:
    """Mean and deviation of every row, Hit@10, MedR and accuracy: of one direction, of both."""
    found: set[str] = set()
    for path in FILES:
        for command in ids(path):
            every = results(path, command)
            for name in every.names:
                for measure, digits in (("hit10", 1), ("medr", 0)):
                    for epoch in ("last", "best"):
                        both = [
                            f"{value.mean:.{digits}f} ± {value.deviation:.{digits}f}"
                            for value in (
                                every.aggregate(name, epoch, direction)[measure]
                                for direction in ("i2t", "t2i")
                            )
                        ]
                        found |= {*both, " / ".join(both)}
                curves = [[point.accuracy for point in cell.curve] for cell in every.of(name)]
                for accuracies in zip(*curves, strict=True):
                    known = [value for value in accuracies if value is not None]
                    if known:
                        value = spread(known)
                        found.add(f"{value.mean:.1f} ± {value.deviation:.1f}")
    return found


@pytest.mark.parametrize("command", MAKER["FILES"])
def test_a_page_of_tables_is_what_its_file_gives(command: str) -> None:
    assert (RESULTS / "tables" / f"{command}.md").read_text() == MAKER["page"](command)


def test_the_threat_table_is_what_its_file_gives() -> None:
    assert MAKER["threats"]() in (ROOT / "docs" / "withstands.md").read_text()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_victim_names_the_command_that_made_it(path: Path) -> None:
    known = MAKER["commands"]()
    for command in ids(path):
        assert command in known
        if not command.startswith("paper-"):
            assert MAKER["FILES"][command] == path.name


def test_the_recorded_commands_parse() -> None:
    app = build_app()
    for title, text in MAKER["commands"]().values():
        found = commands(Block("docs/results/commands.csv", 1, "sh", text, title))
        assert found, title
        for command in found:
            app.parse_args(command, exit_on_error=False, print_error=False)


@pytest.mark.parametrize("table", TABLES)
def test_a_table_of_the_paper_is_what_its_file_gives(table: str) -> None:
    name = f"paper-{table}-cpu"
    page = (RESULTS / f"{name}.md").read_text()
    assert "\n".join(markdown_rows(results(RESULTS / f"{name}.csv", name))) in page


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: str(page.relative_to(ROOT)))
def test_means_and_deviations_of_a_page_were_measured(page: Path, measured: set[str]) -> None:
    text = page.read_text().replace("*", "")
    told = re.findall(VALUE, text) + re.findall(rf"{VALUE} / {VALUE}", text)
    assert [value for value in told if value not in measured] == []


def test_every_file_is_named_by_a_page() -> None:
    text = "".join(page.read_text() for page in pages())
    text += "".join(f"paper-{table}-cpu.csv" for table in TABLES)
    files = [path for path in RESULTS.iterdir() if path.is_file()]
    assert [path.name for path in files if path.name not in text] == []
