"""The demo: whose folder it may use, that its commands are real ones, and the whole of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from unlearnable.jobs.cli import build_app, main
from unlearnable.jobs.demo import _steps


def test_every_step_is_a_command_that_parses(tmp_path: Path) -> None:
    for step in _steps(tmp_path, "0"):
        build_app().parse_args(step.command, exit_on_error=False, print_error=False)


def test_demo_of_another_seed_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "demo.json").write_text('{"seed": 1, "version": "0.1.0"}')
    assert main(["demo", "--output", str(tmp_path), "--seed", "2"]) == 2
    assert "choose another" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["demo.json"]


def test_foreign_folder_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    assert main(["demo", "--output", str(tmp_path)]) == 2
    assert "holds no demo" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.slow
@pytest.mark.ray
def test_demo_from_nothing_and_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["demo", "--output", str(tmp_path / "demo")]
    assert main(line) == 0
    made = {path.name for path in (tmp_path / "demo").iterdir()}
    assert {"results.json", "retrieval.png", "before-after.png"} <= made
    results = json.loads((tmp_path / "demo" / "results.json").read_text())
    assert results
    capsys.readouterr()
    assert main(line) == 0
    assert capsys.readouterr().out.count("done before") == 4
