"""Tables of tiny cells on the small corpus of drawings; the cells are really fitted and trained."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import paper_host
import pytest

from unlearnable.pipeline.errors import UsageError
from unlearnable.pipeline.evaluate.results import Results
from unlearnable.pipeline.evaluate.results_csv import read_victims
from unlearnable.pipeline.experiments.paper import run, tables
from unlearnable.pipeline.experiments.paper.cells import Copy, Fit, Victim, with_needs
from unlearnable.pipeline.experiments.paper.config import PaperConfig
from unlearnable.pipeline.experiments.paper.inputs import find_inputs
from unlearnable.pipeline.experiments.paper.store import Store
from unlearnable.pipeline.experiments.paper.tables import SCALES, victims_of

HOST = paper_host.__file__


@pytest.fixture
def small_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "SCALES", dict(SCALES))
    paper_host.shrink()


@pytest.fixture
def config(corpus: Path, tmp_path: Path, small_scale: None) -> PaperConfig:
    return PaperConfig(
        table="main",
        input=str(corpus),
        test=str(corpus / "shard-003.tar"),
        output=str(tmp_path / "paper"),
        seeds=(0,),
        device="cpu",
    )


def test_a_table_is_made_once_and_shows_every_row_that_was_asked_for(
    config: PaperConfig, caplog: pytest.LogCaptureFixture
) -> None:
    config = replace(config, only=("clean", "em", "default"))
    caplog.set_level("INFO", "unlearnable")
    first = run.paper(config)
    assert (first.made, first.kept) == (7, 0)
    assert "will take about" in caplog.text
    assert "[7/7] victim: default, seed 0 (about" in caplog.text
    assert first.table is not None
    text = first.table.read_text()
    assert [f"| {row} (one seed) | last |" in text for row in config.only] == [True] * 3
    assert "| chance |" in text
    assert "claims nothing" in text
    assert first.table.with_suffix(".png").read_bytes()[:4] == b"\x89PNG"
    victims = read_victims(str(first.table.with_suffix(".csv")), "paper-main-cpu")
    assert [cell.row for cell in victims] == list(config.only)
    cells = [json.loads(record) for record in records(config).values()]
    assert sorted(cell["kind"] for cell in cells) == ["copy"] * 2 + ["fit"] * 2 + ["victim"] * 3
    for cell in cells:
        assert cell["device"] == "cpu"
        assert cell["seconds"] > 0
        assert cell["passes"].keys() == {"image", "text"}
    # 1 step of 40 and 8 PGD steps each on the 80 samples, in units of forward+backward.
    em = next(cell for cell in cells if "method em" in cell["title"] and cell["kind"] == "fit")
    assert em["passes"] == {"image": 8.5, "text": round(0.5 + 8 / 3, 2)}

    caplog.clear()
    again = run.paper(config)
    assert (again.made, again.kept) == (0, 7)
    assert "epoch" not in caplog.text
    assert first.table.read_text() == text

    # Another table that has the same cells finds them.
    other = run.paper(replace(config, table="ablation", only=("default", "text")))
    assert (other.made, other.kept) == (2, 3)


def test_cells_are_named_by_content_and_settings(
    config: PaperConfig, corpus: Path, tmp_path: Path
) -> None:
    def keys(config: PaperConfig) -> set[str]:
        inputs = find_inputs(run._resolved(config), tmp_path / "facts.json")
        return {inputs.key(cell) for cell in with_needs(victims_of(run._resolved(config)))}

    before = keys(config)
    shard = corpus / "shard-000.tar"
    os.utime(shard)
    assert keys(config) == before, "a new time of equal bytes changes nothing"
    assert not keys(replace(config, input=str(corpus / "shard-00[01].tar"))) & before
    more = keys(replace(config, seeds=(0, 1)))
    assert before < more
    assert {key.split("-")[0] for key in more - before} == {"victim"}


def test_every_table_is_made_of_known_settings(config: PaperConfig) -> None:
    from unlearnable.pipeline.evaluate.config import EvaluateConfig
    from unlearnable.pipeline.execution.config import FitRunConfig, ProtectConfig

    kinds = {Fit: FitRunConfig, Copy: ProtectConfig, Victim: EvaluateConfig}
    for scale in ("cpu", "gpu"):
        for table in ("main", "ablation", "transfer", "finetune", "faces"):
            asked = replace(config, table=table, scale=scale, seeds=(0, 1, 2))  # type: ignore[arg-type]
            for init in (None, "weights.pt"):
                victims = victims_of(replace(asked, init=init))
                rows = [v.row for v in victims]
                assert len({(v.row, v.seeds) for v in victims}) == len(rows)
                for cell in with_needs(list(victims)):
                    assert set(cell.options) <= set(kinds[type(cell)].__dataclass_fields__)


def test_the_second_half_is_tuned_from_what_the_first_half_left(config: PaperConfig) -> None:
    asked = replace(config, table="finetune", only=("half: clean",), seeds=(1,))
    summary = run.paper(asked)
    assert summary.made == 2
    assert summary.table is not None
    start, tuned = read_victims(str(summary.table.with_suffix(".csv")))
    assert (start.samples, tuned.samples) == (40, 40)
    assert "init_sha256" in tuned.config
    assert "init_sha256" not in start.config


@pytest.mark.slow
def test_a_share_of_the_corpus_and_a_matrix(config: PaperConfig) -> None:
    shares = run.paper(replace(config, table="ablation", only=("share50",)))
    assert shares.made == 3
    row = "default tiny -> tiny"
    matrix = run.paper(replace(config, table="transfer", only=(row, "clean -> tiny")))
    assert matrix.table is not None
    assert f"| {row} (one seed) | last |" in matrix.table.read_text()
    assert matrix.table.with_suffix(".png").stat().st_size > 10_000


@pytest.mark.slow
def test_measured_victims_are_taken_over_where_their_settings_agree(
    config: PaperConfig, tmp_path: Path
) -> None:
    from unlearnable.pipeline.evaluate.config import EvaluateConfig
    from unlearnable.pipeline.evaluate.evaluate import evaluate

    options = dict(tables.SCALES["cpu"].victim)
    measured = str(tmp_path / "measured.json")
    results = evaluate(
        EvaluateConfig(
            train=(f"clean={config.input}",), test=config.test, output=measured, **options
        )
    )
    asked = replace(config, measured=(measured,), only=("clean",))
    found = run.paper(asked)
    assert found.made == 0
    assert found.table is not None
    assert "| victim: clean, from measured.json |" in found.table.read_text()
    table = str(found.table.with_suffix(".csv"))
    elsewhere = replace(asked, measured=(table,), output=str(tmp_path / "elsewhere"))
    again = run.paper(elsewhere)
    assert (again.made, again.missing) == (0, 0)
    assert again.table is not None
    assert "| victim: clean, from paper-main-cpu.csv |" in again.table.read_text()
    taken = Results(tuple(read_victims(str(again.table.with_suffix(".csv")))))
    assert taken.summary() == results.summary()
    assert run.paper(replace(asked, precision="bf16")).made == 1
    with pytest.raises(UsageError, match=r"nothing\.json holds no victims"):
        run.paper(replace(asked, measured=(str(tmp_path / "nothing.json"),)))


@pytest.mark.slow
def test_two_processes_share_the_cells_of_a_table(config: PaperConfig) -> None:
    line = command(config, "clean", "random", "default")
    both = [subprocess.Popen(line, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    told = [process.communicate(timeout=200)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    begun = sorted(
        line.partition("] ")[2].partition(" (about")[0]
        for text in told
        for line in text.splitlines()
        if "] " in line and "(about" in line
    )
    assert len(begun) == len(set(begun)) == 6


def test_a_table_that_is_killed_goes_on_behind_its_finished_cells(config: PaperConfig) -> None:
    with subprocess.Popen(command(config, "random", "clean"), stderr=subprocess.DEVNULL) as process:
        while not records(config):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    finished = records(config)
    assert 0 < len(finished) < 3
    again = run.paper(replace(config, only=("random", "clean")))
    assert (again.made, again.kept) == (3 - len(finished), len(finished))
    assert finished.items() <= records(config).items()


@pytest.mark.slow
def test_a_table_killed_again_and_again_makes_no_finished_cell_twice(
    config: PaperConfig, corpus: Path, tmp_path: Path
) -> None:
    line = command(config, "random", "em", "paper-mem3", "default")
    finished: dict[str, bytes] = {}
    kills = 0
    for delay in range(3, 60, 2):
        with subprocess.Popen(line, stderr=subprocess.DEVNULL) as process:
            try:
                process.wait(timeout=delay)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                kills += 1
        for key, record in records(config).items():
            assert finished.setdefault(key, record) == record
        if process.returncode == 0:
            break
    assert process.returncode == 0
    assert kills > 2
    undisturbed = replace(config, output=str(tmp_path / "whole"))
    subprocess.run(command(undisturbed, "random", "em", "paper-mem3", "default"), check=True)
    assert results(config) == results(undisturbed)


def command(config: PaperConfig, *rows: str) -> list[str]:
    inputs = ["--input", config.input, "--test", config.test, "--output", config.output]
    return [
        sys.executable, HOST, "--table", config.table, *inputs, "--seeds", "0",
        "--only", *rows,
    ]  # fmt: skip


def records(config: PaperConfig) -> dict[str, bytes]:
    store = Store(config.output)
    found = store.root.glob("cells/*/cell.json")
    return {path.parent.name: path.read_bytes() for path in found}


def results(config: PaperConfig) -> dict[str, object]:
    victims = read_victims(str(Path(config.output) / "paper-main-cpu.csv"))
    return {cell.row: (cell.curve[0].retrieval, cell.curve[1].retrieval) for cell in victims}
