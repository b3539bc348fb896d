"""The pages stay readable: a short README, few numbers, no cell that nobody reads."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from doc_blocks import ROOT, pages

from unlearnable.pipeline.evaluate.attacks.catalogue import markdown_table
from unlearnable.pipeline.evaluate.results import Results
from unlearnable.pipeline.evaluate.results_csv import read_victims

README = ROOT / "README.md"
RESULTS = ROOT / "docs" / "results"
NUMBER = r"\d+(?:[.,]\d+)*"
# Tables that a program makes of the CSV files hold a column a measure, and no prose.
WRITTEN = [
    page for page in pages() if page.parent.name != "tables" and not page.name.startswith("paper-")
]


def prose(text: str) -> str:
    """What a reader sees: without code and without the targets of links."""
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    return re.sub(r"\]\([^)]*\)", "]", re.sub(r"`[^`]*`", "", text))


def best(file: str, command: str, row: str) -> list[str]:
    """Hit@10 of a row at its best epoch, image to text and text to image."""
    results = Results(tuple(read_victims(str(RESULTS / file), command)))
    found = (results.aggregate(row, "best", way)["hit10"].mean for way in ("i2t", "t2i"))
    return [f"{value:.1f}" for value in found]


def test_the_readme_is_read_in_a_minute() -> None:
    text = README.read_text()
    assert len(text.splitlines()) <= 150
    assert len(re.findall(NUMBER, prose(text))) <= 120


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_cell_holds_many_numbers(page: Path) -> None:
    rows = [line for line in prose(page.read_text()).splitlines() if line.startswith("|")]
    cells = [cell.strip() for row in rows for cell in row.strip("|").split("|")]
    assert [cell for cell in cells if len(re.findall(NUMBER, cell)) > 4] == []


def test_the_readme_s_strength_is_what_was_measured() -> None:
    rows = {
        "originals": ("clean", "clean"),
        "random noise of the same size": ("random", "random"),
        "MEM-5, published schedule, shortened": ("paper-mem5", "paper-mem5"),
        "protected, version 0.1": ("default", "protected"),
    }
    text = README.read_text().replace("**", "")
    for label, (photos, drawings) in rows.items():
        values = best("photos.csv", "photos", photos) + best("openmoji.csv", "openmoji", drawings)
        assert f"| {label} | {' | '.join(values)} |" in text
    today = best("photos-224.csv", "photos-224", "default")
    today += best("openmoji.csv", "openmoji-today", "default")
    assert f"| protected, today's default | {' | '.join(today)} |" in text


def test_the_readme_s_worst_rows_are_what_was_measured() -> None:
    text = README.read_text()
    clean = best("robustness.csv", "robustness", "clean")
    stripped = best("photos-224.csv", "photos-224", "default | strip-trigger")
    originals = best("photos-224.csv", "photos-224", "clean")
    purified = best("robustness.csv", "robustness", "default | purify:500")
    found = best("photos-224.csv", "photos-224", "default | known-family:8+strip-trigger")
    for row, reference, way in (
        (stripped, originals, 1),
        (purified, clean, 0),
        (found, originals, 1),
    ):
        share = round(100 * float(row[way]) / float(reference[way]))
        assert f"| {row[way]} | {share} % |" in text
    augmented = best("photos-224.csv", "photos-224", "default | augment")
    control = best("photos-224.csv", "photos-224", "clean | augment")
    share = round(100 * float(augmented[0]) / float(control[0]))
    assert f"{augmented[0]} of {control[0]}\n({share} %)" in text
    assert f"({best('photos-224.csv', 'photos-224', 'default | gray')[1]})" in text


def test_the_page_of_attacks_holds_the_catalogue() -> None:
    assert markdown_table() in (ROOT / "docs" / "withstands.md").read_text()
