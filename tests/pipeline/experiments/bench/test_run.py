from __future__ import annotations

import csv
import time
from pathlib import Path

import pytest
import torch

from unlearnable.jobs.cli import main
from unlearnable.pipeline.errors import UsageError
from unlearnable.pipeline.experiments.bench import run as bench
from unlearnable.pipeline.experiments.bench.chart import GOALS, against_goals
from unlearnable.pipeline.experiments.bench.config import BENCH_SECTIONS, BenchConfig
from unlearnable.pipeline.experiments.bench.record import (
    Figure,
    append,
    here,
    read_latest,
    seconds,
    side_by_side,
)
from unlearnable.pipeline.experiments.bench.run import run_bench
from unlearnable.pipeline.experiments.bench.shards import drive_idle


def lines(**changes: object) -> list[Figure]:
    config = BenchConfig(torch_threads=1, **changes)  # type: ignore[arg-type]
    return run_bench(config, show=lambda _: None)


def test_figures_are_added_with_device_and_versions(tmp_path: Path) -> None:
    record = str(tmp_path / "bench.csv")
    old = [Figure("io", "default", "worker", 2.0, "ms/sample"), Figure("a", "b", "c", 1.0, "s")]
    append(record, old, here("cpu"))
    append(record, [Figure("io", "default", "worker", 3.5, "ms/sample")], here("cpu"))
    with Path(record).open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["value"]) for row in rows] == [2.0, 1.0, 3.5]
    assert {row["torch"] for row in rows} == {str(torch.__version__)}
    assert all(row["device"] and row["time"] and row["python"] for row in rows)
    latest, devices = read_latest(record)
    assert latest == [Figure("io", "default", "worker", 3.5, "ms/sample"), old[1]]
    assert devices == rows[0]["device"]


def test_the_time_of_a_call_is_that_of_the_processor() -> None:
    def busy() -> None:
        until = time.process_time() + 0.02
        while time.process_time() < until:
            pass

    assert 0.02 <= seconds(busy, "cpu", least=0.0) < 5
    assert seconds(lambda: time.sleep(0.05), "cpu", least=0.0) < 0.05


def test_functions_side_by_side_meet_the_same_machine() -> None:
    calls: list[str] = []

    def long() -> None:
        calls.append("long")
        sum(range(400_000))

    taken = side_by_side([lambda: calls.append("short"), long], "cpu", rounds=3)
    assert taken[1] > taken[0] >= 0
    assert calls == ["short", "long"] * 3


def test_the_command_prints_a_line_for_each_figure(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--only", "kernels", "--scale", "0.01", "--torch-threads", "1"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed
    assert all(line.startswith("kernels ") for line in printed)


def test_kernels_are_measured_and_equal_their_references(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    record, plot = tmp_path / "bench.csv", tmp_path / "bench.png"
    figures = lines(only=("kernels",), scale=0.01, record=str(record), plot=str(plot))
    assert {f.case.split()[0] for f in figures} == {"copy", "pgd_step", "hotflip_topk"}
    assert all(f.value > 0 for f in figures if f.unit in {"ms", "GB/s", "ratio"})
    assert all(f.value == 1 for f in figures if f.metric == "equal to reference")
    assert record.read_text().count("\n") == len(figures) + 1
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_every_goal_names_a_part_and_says_how_far_it_is_reached() -> None:
    assert {section for section, _, _ in GOALS} <= set(BENCH_SECTIONS)
    figures = [
        Figure("workers", "2 / 1", "speed-up", 0.9, "ratio"),
        Figure("driver", "ray, 100000 shards", "memory growth", 25.0, "MB"),
        Figure("driver", "ray, 1000 shards", "memory growth", 25.0, "MB"),
        Figure("kernels", "pgd_step bfloat16 contiguous", "speed-up over reference", 1.0, "ratio"),
    ]
    assert [(goal, reached) for _, goal, reached in against_goals(figures)] == [(1.8, 0.5), (50, 2)]


def test_the_driver_commits_shards_without_work() -> None:
    taken, grown = drive_idle("local", 5)
    assert taken > 0
    assert grown >= 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"only": ("speed",)}, "no part 'speed'"),
        ({"only": ("limit,speed",)}, "no part 'speed'"),
        ({"plot": "a.png"}, "give both"),
        ({"samples": 1}, "samples must be"),
        ({"shards": (0,)}, "shards must be"),
    ],
)
def test_settings_that_cannot_be_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        lines(**{"only": (), **change})


@pytest.mark.slow
@pytest.mark.parametrize("section", ["method", "io", "limit"])
def test_parts_that_run_the_method(section: str) -> None:
    figures = lines(only=(section,), samples=16, batch_size=16, image_size=32)
    assert {f.section for f in figures} == {section}
    shares = [f.value for f in figures if f.metric == "share of the limit"]
    assert all(share > 0 for share in shares)
    named = bench._named(figures, BenchConfig(model="RN50"))
    assert all(f.case.startswith("RN50, ") for f in named)
