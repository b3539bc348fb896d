"""The Dagster job in a real Dagster: what each exit code does to its step, again, and backfill."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from days import (
    BAD,
    FIT,
    GOOD,
    MORE,
    PROTECT,
    Platform,
    contents,
    make_days,
    published,
    repair,
    tree,
)
from platforms import environment

ASSETS = Path(__file__).resolve().parents[2] / "jobs" / "dagster" / "unlearnable_assets.py"
STEPS = ("shards", "surrogate", "protected", "protected_verified", "published")
EVENT = re.compile(r" - (\w+) - STEP_(SUCCESS|FAILURE|SKIPPED|UP_FOR_RETRY) - ")

pytestmark = pytest.mark.slow


class Dagster(Platform):
    """A Dagster of its own."""

    def day(self, day: str, **settings: Any) -> tuple[int, str]:
        """Run the job for a day; return its exit code and what it told."""
        config = {"fit_options": FIT, "protect_options": PROTECT, **settings}
        path = self.home / "run.json"
        path.write_text(json.dumps({"resources": {"unlearnable": {"config": config}}}))
        return self.run(
            "job", "execute", "-f", str(ASSETS), "-j", "unlearnable_day", "-c", str(path),
            "--tags", json.dumps({"dagster/partition": day}),
        )  # fmt: skip


def states(told: str) -> dict[str, list[str]]:
    """What became of each step, its attempts in order."""
    found: dict[str, list[str]] = {}
    for step, state in EVENT.findall(told):
        found.setdefault(step, []).append(state)
    return found


GREEN = {step: ["SUCCESS"] for step in STEPS}


@pytest.fixture(scope="module")
def dagster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Dagster:
    programs = environment(request.config, "dagster", "dagster==1.13.29")
    home = tmp_path_factory.mktemp("dagster")
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    return Dagster(programs / "dagster", home, {"DAGSTER_HOME": str(home)})


@pytest.fixture(scope="module")
def incoming(dagster: Dagster, build_shards: Callable[..., Path]) -> Path:
    return make_days(dagster.home / "incoming", build_shards)


def test_two_days_become_two_published_partitions(dagster: Dagster, incoming: Path) -> None:
    before = tree(incoming)
    for day in MORE:
        code, told = dagster.day(day, owner="The Museum")
        assert (code, states(told)) == (0, GREEN), told
    protected = dagster.made / "protected"
    assert sorted(path.name for path in protected.iterdir()) == MORE
    for day in MORE:
        mark = published(protected / day)
        assert mark is not None
        assert mark["samples"] == 16
        assert "The Museum" in (protected / day / "README.md").read_text()
    assert tree(incoming) == before

    written = contents(dagster.made)
    code, told = dagster.day(MORE[0], owner="The Museum")
    assert (code, states(told)) == (0, GREEN), told
    assert contents(dagster.made) == written


def test_a_failing_shard_turns_protected_red_and_its_repair_green(
    dagster: Dagster, incoming: Path
) -> None:
    code, told = dagster.day(BAD)
    assert code != 0
    found = states(told)
    assert found["protected"] == ["UP_FOR_RETRY", "UP_FOR_RETRY", "FAILURE"], told
    assert (found["shards"], found["surrogate"]) == (["SUCCESS"], ["SUCCESS"])
    assert "SUCCESS" not in found.get("protected_verified", []) + found.get("published", [])
    assert re.search(r"exit code 3, .*: failed: shard-001: .*copy the shard again", told)
    copy = dagster.made / "protected" / BAD
    assert published(copy) is None
    first = (copy / "shard-000.tar").stat().st_mtime_ns

    repair(incoming)
    code, told = dagster.day(BAD)
    assert (code, states(told)) == (0, GREEN), told
    assert published(copy) is not None
    assert (copy / "shard-000.tar").stat().st_mtime_ns == first


def test_a_violation_fails_the_check_and_nothing_is_published(
    dagster: Dagster, incoming: Path
) -> None:
    target = dagster.home / "tampered"
    assert dagster.day(GOOD, target=str(target))[0] == 0
    copy = target / "protected" / GOOD
    (copy / "_PUBLISHED").unlink()
    shard = copy / "shard-000.tar"
    shard.write_bytes(shard.read_bytes()[:-2048])
    code, told = dagster.day(GOOD, target=str(target))
    assert code != 0
    assert "Asset check 'verified' on 'protected' did not pass" in told
    found = states(told)
    assert "SUCCESS" not in found.get("published", []), told
    assert published(copy) is None


def test_a_wrong_request_is_not_tried_again(dagster: Dagster, incoming: Path) -> None:
    code, told = dagster.day("2026-03-09")
    assert code != 0
    assert states(told)["surrogate"] == ["FAILURE"]
    assert re.search(r"exit code 2, the request is wrong: unlearnable: .*2026-03-09", told)
