"""`verify` over many shards: on every executor, or on a sample with what it tells of the rest."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from math import comb
from pathlib import Path

import pytest
from runs import copy_both, kept

from unlearnable.jobs.cli import main
from unlearnable.pipeline.errors import UsageError
from unlearnable.pipeline.execution.config import ProtectConfig
from unlearnable.pipeline.execution.protect import protect
from unlearnable.pipeline.verify.config import VerifyConfig
from unlearnable.pipeline.verify.sampling import draw, upper_bound
from unlearnable.pipeline.verify.verify import VerifyReport, verify

SHARDS = 10


@pytest.fixture(scope="module")
def source(build_shards: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_shards(tmp_path_factory.mktemp("source") / "in", shards=SHARDS, samples=3, size=16)


@pytest.fixture(scope="module")
def sound(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("sound") / "out"
    config = ProtectConfig(str(source), str(output), method="random", executor="local")
    assert protect(config).exit_code == 0
    return output


@pytest.fixture
def damaged(sound: Path, tmp_path: Path) -> Path:
    """A copy with a changed shard, a missing manifest and a missing record."""
    output = copy_both(sound, tmp_path / "damaged")
    tar = output / "shard-002.tar"
    tar.write_bytes(tar.read_bytes()[:-512])
    (kept(output) / "manifest" / "shard-005.parquet").unlink()
    (kept(output) / "_ledger" / "shard-007.json").unlink()
    return output


def plain(report: VerifyReport) -> VerifyReport:
    return replace(report, seconds=0.0)


@pytest.mark.parametrize("shards", [1, 7, 23])
def test_the_bound_is_the_exact_one(shards: int) -> None:
    """By whole fractions: the largest number that shows so few with a chance above 5 %."""

    def chance(wrong: int, checked: int, found: int) -> Fraction:
        ways = sum(
            comb(wrong, i) * comb(shards - wrong, checked - i) for i in range(found + 1)
        )  # comb(n, k) is 0 for k > n
        return Fraction(ways, comb(shards, checked))

    for checked in range(1, shards + 1):
        for found in range(checked + 1):
            possible = range(found, shards - (checked - found) + 1)
            exact = max(n for n in possible if chance(n, checked, found) > Fraction(1, 20))
            assert upper_bound(shards, checked, found) == exact, (checked, found)


def test_the_bound_holds_in_nineteen_draws_of_twenty() -> None:
    rng = random.Random(0)
    wrong = set(range(50))
    held = 0
    for _ in range(1000):
        found = len(wrong & set(rng.sample(range(1000), 60)))
        held += len(wrong) <= upper_bound(1000, 60, found)
    assert held >= 940
    assert upper_bound(1000, 60, 0) == 47
    assert upper_bound(1_000_000, 300, 0) == 9934


def test_draws_are_repeatable_by_their_seed_and_differ_without_one() -> None:
    shards = list(range(1000))
    first, seed = draw(shards, 20, None)
    assert draw(shards, 20, seed) == (first, seed)
    assert first == sorted(set(first))
    assert draw(shards, 20, None)[0] != first
    assert draw(shards, 5000, None)[0] == shards
    with pytest.raises(UsageError, match="sample-shards is 0"):
        draw(shards, 0, None)


def test_a_sample_says_what_it_tells(
    sound: Path, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(sound), "--sample-shards", "6", "--seed", "3", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["shards"], found["samples"], found["counts"]) == (6, 18, {})
    expected = {"checked": 6, "shards": 10, "seed": 3, "wrong": 0, "at_most": 2, "confidence": 0.95}
    assert found["sample"] == expected
    assert main(["verify", str(sound), "--sample-shards", "6", "--against", str(source)]) == 0
    text = capsys.readouterr().out
    assert "6 of 10 shards checked and none wrong, so at most 20 % of all shards (2)" in text
    assert main(["verify", str(sound), "--sample-shards", "99"]) == 0
    assert "random sample" not in capsys.readouterr().out


def test_a_sample_of_a_damaged_copy(damaged: Path) -> None:
    """What is drawn is checked whole; that a record is missing is seen without drawing it."""
    for seed in range(8):
        config = VerifyConfig(str(damaged), sample_shards=4, seed=seed)
        report = verify(config)
        assert report.exit_code == 4
        assert report.counts["ledger_missing"] == 1
        drawn, _ = draw([f"shard-{n:03d}" for n in range(SHARDS)], 4, seed)
        bad = {v.shard for v in report.violations} & set(drawn)
        assert bad == set(drawn) & {"shard-002", "shard-005", "shard-007"}
        assert report.sample is not None
        assert report.sample.wrong == len(bad)
        assert report.sample.at_most >= 3
    index = damaged / "index.json"
    index.write_text(index.read_text().replace('"nsamples": 3', '"nsamples": 4'))
    counts = verify(VerifyConfig(str(damaged), sample_shards=4, seed=0)).counts
    assert counts["index_mismatch"] >= 3


@pytest.mark.ray
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("ray_cluster")
def test_two_actors_find_what_one_process_finds(damaged: Path, source: Path) -> None:
    alone = VerifyConfig(str(damaged), against=str(source), executor="local")
    found = verify(alone)
    assert set(found.counts) >= {"shard_unreadable", "manifest_unreadable", "ledger_missing"}
    spread = verify(replace(alone, executor="ray", workers=2))
    assert plain(spread) == plain(found)


@pytest.mark.slow
def test_a_shard_that_cannot_be_checked_is_no_violation(
    sound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A named pipe that nobody writes to: its reader waits for ever."""
    output = copy_both(sound, tmp_path / "out")
    (output / "shard-004.tar").unlink()
    os.mkfifo(output / "shard-004.tar")
    options = ["--executor", "local", "--shard-timeout", "1.5", "--json"]
    assert main(["verify", str(output), *options]) == 3
    found = json.loads(capsys.readouterr().out)
    assert found["counts"] == {"not_checked": 1}
    assert found["violations"][0]["shard"] == "shard-004"
    assert "no result within 1.5 s" in found["violations"][0]["message"]
    assert found["samples"] == 27
