"""The Dagster job in a real Dagster: what each exit code does to its step, again, and backfill."""

from __future__ import annotations

import json
import re
import socket
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
    unpack,
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
        return self.traced(day, {}, **settings)

    def traced(self, day: str, variables: dict[str, str], **settings: Any) -> tuple[int, str]:
        """Run it with more variables of the environment."""
        config = {"fit_options": FIT, "protect_options": PROTECT, **settings}
        path = self.home / "run.json"
        path.write_text(json.dumps({"resources": {"unlearnable": {"config": config}}}))
        return self.run(
            "job", "execute", "-f", str(ASSETS), "-j", "unlearnable_day", "-c", str(path),
            "--tags", json.dumps({"dagster/partition": day}), **variables,
        )  # fmt: skip


def states(told: str) -> dict[str, list[str]]:
    """What became of each step, its attempts in order."""
    found: dict[str, list[str]] = {}
    for step, state in EVENT.findall(told):
        found.setdefault(step, []).append(state)
    return found


GREEN = {step: ["SUCCESS"] for step in STEPS}


def installed(request: pytest.FixtureRequest, home: Path, *more: str) -> Dagster:
    programs = environment(request.config, "dagster", "dagster==1.13.29", *more)
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    return Dagster(programs / "dagster", home, {"DAGSTER_HOME": str(home)})


@pytest.fixture(scope="module")
def dagster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Dagster:
    """Dagster alone, as most have it: without OpenLineage's client."""
    return installed(request, tmp_path_factory.mktemp("dagster"))


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


@pytest.fixture(scope="module")
def traced(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    build_shards: Callable[..., Path],
) -> Dagster:
    """Dagster with OpenLineage's client beside it."""
    home = tmp_path_factory.mktemp("traced")
    make_days(home / "incoming", build_shards)
    return installed(request, home, "openlineage-python==1.54.0")


def events(log: Path) -> dict[str, list[dict[str, Any]]]:
    """Events of a job by its name; taken from the file."""
    found: dict[str, list[dict[str, Any]]] = {}
    for line in log.read_text().splitlines():
        event = json.loads(line)
        assert event["job"]["namespace"] == "archive"
        assert event["run"]["facets"]["parent"]["job"]["name"] == "unlearnable_day"
        found.setdefault(event["job"]["name"].removeprefix("unlearnable."), []).append(event)
    log.unlink()
    return found


def told_of(found: dict[str, list[dict[str, Any]]], step: str) -> list[str]:
    """States of a step's run; each of its events names the same run and the same datasets."""
    of_step = found[step]
    assert len({(e["run"]["runId"], str(e["inputs"]), str(e["outputs"])) for e in of_step}) == 1
    return [event["eventType"] for event in of_step]


def test_openlineage_is_told_what_each_step_reads_and_writes(traced: Dagster) -> None:
    log = traced.home / "lineage.jsonl"
    transport = {"type": "file", "log_file_path": str(log), "append": True}
    tell = {"OPENLINEAGE__TRANSPORT": json.dumps(transport), "OPENLINEAGE_NAMESPACE": "archive"}
    source = unpack(traced.home / "incoming" / GOOD, traced.home / "pictures" / GOOD)
    settings = {"kind": "folder", "source": str(source.parent)}

    code, told = traced.traced(GOOD, tell, **settings)
    assert (code, states(told)) == (0, GREEN), told
    assert "OpenLineage was not told" not in told
    found = events(log)

    def place(kind: str) -> tuple[str, str]:
        return "file", str(traced.made / kind / GOOD)

    shards, copy, record = place("shards"), place("protected"), place("record")
    fitted = place("surrogate")
    expected = {
        "shards": ([("file", str(source))], [shards]),
        "surrogate": ([shards], [fitted]),
        "protected": ([shards, fitted], [copy, record]),
        "protected_verified": ([copy, record, shards], []),
        "published": ([copy, record], [copy]),
    }
    assert found.keys() == expected.keys()
    for step, (reads, writes) in expected.items():
        assert told_of(found, step) == ["START", "COMPLETE"]
        event = found[step][0]
        assert [(d["namespace"], d["name"]) for d in event["inputs"]] == reads
        assert [(d["namespace"], d["name"]) for d in event["outputs"]] == writes

    shard = min((traced.made / "protected" / GOOD).glob("*.tar"))
    shard.write_bytes(shard.read_bytes()[:-2048])
    assert traced.traced(GOOD, tell, **settings)[0] != 0
    assert told_of(events(log), "protected_verified") == ["START", "FAIL"]
    assert traced.traced("2026-03-09", tell)[0] != 0
    # Shards that arrive as shards are taken as they are: no command runs for them.
    found = events(log)
    assert found.keys() == {"surrogate"}
    assert told_of(found, "surrogate") == ["START", "FAIL"]


def test_lineage_decides_no_step_and_is_silent_without_a_configuration(traced: Dagster) -> None:
    day = MORE[0]
    code, told = traced.day(day)
    assert (code, states(told)) == (0, GREEN), told
    assert "lineage" not in told.lower()
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        code, told = traced.traced(day, {"OPENLINEAGE_URL": url})
    assert (code, states(told)) == (0, GREEN), told
    assert "OpenLineage was not told: " in told
