"""A CSV file of victims gives the table of the results that it was made from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from unlearnable.pipeline.errors import UsageError
from unlearnable.pipeline.evaluate.results import Results, VictimResult, write_results
from unlearnable.pipeline.evaluate.results_csv import append, read_victims, victims_csv
from unlearnable.pipeline.evaluate.retrieval import Retrieval, Scores, chance
from unlearnable.pipeline.evaluate.tables import markdown_table
from unlearnable.pipeline.evaluate.victim import EpochPoint

# The best epoch is the second image to text and the first text to image.
HITS = ((10.123456, 31.5), (40.654321, 30.25), (35.0, 29.75))


def victim(seed: int, **changes: object) -> VictimResult:
    curve = [
        EpochPoint(
            number, 4.0 / number,
            Retrieval(Scores(1.5, 9.25, i2t + seed, 21.0), Scores(2.5, 8.0, t2i - seed, 12.0)),
        )
        for number, (i2t, t2i) in enumerate(HITS, 1)
    ]  # fmt: skip
    config = {
        "model": "tiny", "image_size": 64, "context_length": 16, "epochs": 3, "batch_size": 128,
        "lr": 0.0005, "weight_decay": 0.2, "eval_every": 1, "precision": "fp32", "seed": seed,
    }  # fmt: skip
    versions = {"unlearnable": "0.1.0", "torch": "2.15.0"}
    known = VictimResult(
        "clean", seed, config, curve, chance([1] * 100), 10, 1, 100, 100, 1.5, "cpu", versions
    )
    return replace(known, **changes)  # type: ignore[arg-type]


@pytest.fixture
def cells() -> list[VictimResult]:
    attacked = [victim(seed, attack="share:50, the rest alone") for seed in (0, 1)]
    return [victim(0), victim(1), *attacked]


def test_the_table_is_the_same(cells: list[VictimResult], tmp_path: Path) -> None:
    file = tmp_path / "victims.csv"
    file.write_text(victims_csv(cells, "ours"))
    found = read_victims(str(file))
    assert markdown_table(Results(tuple(found))) == markdown_table(Results(tuple(cells)))
    assert Results(tuple(found)).summary() == Results(tuple(cells)).summary()
    for before, after in zip(cells, found, strict=True):
        assert replace(before, curve=[]) == replace(after, curve=[])
    assert victims_csv(found, "ours") == file.read_text()


def test_settings_that_few_victims_have_come_back(
    cells: list[VictimResult], tmp_path: Path
) -> None:
    curve = [
        replace(point, accuracy=accuracy)
        for point, accuracy in zip(cells[0].curve, (50.0, 97.5, 95.0), strict=True)
    ]
    named = replace(
        cells[0],
        curve=curve,
        config=cells[0].config | {"identities": True, "init_sha256": "ab" * 32},
    )
    file = tmp_path / "victims.csv"
    file.write_text(victims_csv([named, cells[1]], "faces"))
    one, other = read_victims(str(file))
    assert one.config == named.config
    assert [point.accuracy for point in one.curve] == [97.5, 95.0]
    assert other.config == cells[1].config
    assert [point.accuracy for point in other.curve] == [None, None]


def test_results_of_evaluate_are_added_and_replaced(
    cells: list[VictimResult], tmp_path: Path
) -> None:
    results, file = str(tmp_path / "results.json"), str(tmp_path / "victims.csv")
    write_results(results, Results(tuple(cells[:2])), [])
    append(results, file, "first")
    write_results(results, Results(tuple(cells)), [])
    append(results, file, "second")
    append(results, file, "second")
    assert len(read_victims(file)) == 6
    assert [cell.row for cell in read_victims(file, "first")] == ["clean", "clean"]
    write_results(results, Results((victim(0, seconds=9.0), *cells[1:])), [])
    append(results, file, "first")
    assert [cell.seconds for cell in read_victims(file, "first")] == [9.0, 1.5, 1.5, 1.5]
    assert [cell.seconds for cell in read_victims(file, "second")] == [1.5] * 4


def test_what_is_no_file_of_victims_is_refused(cells: list[VictimResult], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nothing\.csv does not exist"):
        read_victims(str(tmp_path / "nothing.csv"))
    other = tmp_path / "other.csv"
    other.write_text("a,b\n1,2\n")
    with pytest.raises(UsageError, match=r"other\.csv is not .* no column corpus"):
        read_victims(str(other))
    with pytest.raises(UsageError, match=r"nothing\.json holds no victims"):
        append(str(tmp_path / "nothing.json"), str(other), "ours")
    other.write_text(victims_csv(cells, "ours").replace(",0.0005,", ",much,"))
    with pytest.raises(UsageError, match="could not convert"):
        read_victims(str(other))
