"""The Airflow DAG in a real Airflow: what each exit code does to its task, again, and backfill."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
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

DAGS = Path(__file__).resolve().parents[2] / "jobs" / "airflow"
AIRFLOW = ("apache-airflow==3.3.2", "apache-airflow-providers-openlineage==2.20.3")
TASKS = ("convert", "fit", "protect", "verify", "publish")
ENDED = frozenset(("success", "skipped", "failed", "upstream_failed"))

pytestmark = pytest.mark.slow


class Airflow(Platform):
    """An Airflow of its own with its database."""

    def day(self, day: str, **params: Any) -> tuple[int, str]:
        return self.run("dags", "test", "unlearnable", day, "--conf", conf(**params))

    def states(self, day: str) -> dict[str, tuple[str, int]]:
        """State and number of attempts by task, in the last run of a day."""
        uri = f"file:{self.home}/airflow.db?mode=ro"
        query = """
            select task_id, t.state, try_number from task_instance t join dag_run r using (run_id)
            where r.id = (select max(id) from dag_run where logical_date like ? || '%')
        """
        with closing(sqlite3.connect(uri, uri=True)) as database:
            return {name: (state, tries) for name, state, tries in database.execute(query, (day,))}


def conf(**params: Any) -> str:
    return json.dumps({"fit_options": FIT, "protect_options": PROTECT, **params})


@pytest.fixture(scope="module")
def airflow(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Airflow:
    programs = environment(request.config, "airflow", *AIRFLOW)
    home = tmp_path_factory.mktemp("airflow")
    found = Airflow(
        programs / "airflow",
        home,
        {
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
            "AIRFLOW__OPENLINEAGE__NAMESPACE": "archive",
            "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(
                {"type": "file", "log_file_path": f"{home}/lineage.jsonl", "append": True}
            ),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
    )
    code, told = found.run("db", "migrate")
    assert code == 0, told
    return found


@pytest.fixture(scope="module")
def incoming(airflow: Airflow, build_shards: Callable[..., Path]) -> Path:
    return make_days(airflow.home / "incoming", build_shards)


@pytest.fixture(scope="module")
def pictures(airflow: Airflow, incoming: Path) -> Path:
    """The same pictures as folders with a table, for the task `convert`."""
    return unpack(incoming / GOOD, airflow.home / "pictures" / GOOD)


def green(*skipped: str) -> dict[str, tuple[str, int]]:
    return {task: ("skipped" if task in skipped else "success", 1) for task in TASKS}


@pytest.fixture(scope="module")
def made(airflow: Airflow, pictures: Path) -> Path:
    """What the DAG made of a day of pictures."""
    before = tree(pictures)
    code, told = airflow.day(GOOD, kind="folder", source=str(pictures.parent), owner="The Museum")
    assert code == 0, told
    assert airflow.states(GOOD) == green()
    assert tree(pictures) == before
    return airflow.made


def test_a_day_of_pictures_becomes_a_published_copy(made: Path) -> None:
    copy = made / "protected" / GOOD
    mark = published(copy)
    assert mark is not None
    assert mark["samples"] == 16
    assert "The Museum" in (copy / "README.md").read_text()
    assert (made / "shards" / GOOD / "train-000.tar").exists()


def test_openlineage_is_told_what_each_task_reads_and_writes(airflow: Airflow, made: Path) -> None:
    read: dict[str, set[str]] = {}
    written: dict[str, set[str]] = {}
    ended = set()
    for line in (airflow.home / "lineage.jsonl").read_text().splitlines():
        event = json.loads(line)
        job = event["job"]
        assert job["namespace"] == "archive"
        task = job["name"].removeprefix("unlearnable").removeprefix(".")
        for places, part in ((read, "inputs"), (written, "outputs")):
            for dataset in event.get(part, []):
                assert dataset["namespace"] == "file"
                places.setdefault(task, set()).add(dataset["name"])
        if event["eventType"] == "COMPLETE":
            ended.add(task)
    assert {*TASKS} <= ended

    def place(kind: str) -> str:
        return str(made / kind / GOOD)

    shards, copy, record = place("shards"), place("protected"), place("record")
    assert written["convert"] == read["fit"] == {shards}
    assert read["protect"] == {shards, *written["fit"]}
    assert written["protect"] == {copy, record} == read["publish"]
    assert read["verify"] == {shards, copy, record}
    assert "verify" not in written
    assert written["publish"] == {copy}


def test_the_same_day_again_changes_nothing(airflow: Airflow, made: Path, pictures: Path) -> None:
    before = contents(made)
    code, told = airflow.day(GOOD, kind="folder", source=str(pictures.parent), owner="The Museum")
    assert code == 0, told
    assert airflow.states(GOOD) == green()
    assert contents(made) == before


def test_pictures_that_changed_turn_convert_red_at_once(
    airflow: Airflow, made: Path, pictures: Path
) -> None:
    before = tree(made)
    table = pictures / "captions.csv"
    whole = table.read_text()
    table.write_text(whole.replace("near", "far from"))
    try:
        code, told = airflow.day(GOOD, kind="folder", source=str(pictures.parent))
    finally:
        table.write_text(whole)
    assert code == 1
    states = airflow.states(GOOD)
    assert states.pop("convert") == ("failed", 1)
    assert {state for state, _ in states.values()} == {"upstream_failed"}
    assert "is not what this command writes" in told
    assert tree(made) == before


def test_a_failing_shard_turns_protect_red_and_its_repair_green(
    airflow: Airflow, incoming: Path
) -> None:
    before = tree(incoming)
    copy = airflow.made / "protected" / BAD
    code, told = airflow.day(BAD)
    assert code == 1
    assert airflow.states(BAD) == {
        "convert": ("skipped", 1),
        "fit": ("success", 1),
        "protect": ("failed", 3),
        "verify": ("upstream_failed", 0),
        "publish": ("upstream_failed", 0),
    }
    assert re.search(r"exit code 3, .*: failed: shard-001: .*copy the shard again", told)
    assert published(copy) is None
    assert tree(incoming) == before
    first = (copy / "shard-000.tar").stat().st_mtime_ns

    repair(incoming)
    code, told = airflow.day(BAD)
    assert code == 0, told
    assert airflow.states(BAD) == green("convert")
    assert published(copy) is not None
    assert (copy / "shard-000.tar").stat().st_mtime_ns == first


def test_a_violation_turns_verify_red_at_once(airflow: Airflow, made: Path, pictures: Path) -> None:
    shard = made / "protected" / GOOD / "train-000.tar"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-2048])
    try:
        code, told = airflow.day(GOOD, kind="folder", source=str(pictures.parent))
    finally:
        shard.write_bytes(whole)
    assert code == 1
    states = airflow.states(GOOD)
    assert states["verify"] == ("failed", 1)
    assert states["publish"][0] == "upstream_failed"
    assert {states[task] for task in ("convert", "fit", "protect")} == {("success", 1)}
    assert re.search(r"exit code 4, violations were found: .*: train-000: ", told)


@contextmanager
def services(airflow: Airflow) -> Iterator[dict[str, str]]:
    """Scheduler, DAG processor and API server, as in production; ended by their ids."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    variables = {
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": url.rsplit(":", 1)[1],
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API_AUTH__JWT_SECRET": "a secret of this test, and of no other one",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": "2",
    }
    started = []
    try:
        for name, *more in (["api-server"], ["dag-processor"], ["scheduler", "--skip-serve-logs"]):
            with (airflow.home / f"{name}.log").open("w") as log:
                process = subprocess.Popen(
                    [airflow.program, name, *more],
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=airflow.environment | variables,
                    cwd=airflow.home,
                    start_new_session=True,
                )
            started.append(process)
        # A task that cannot reach the API server counts as an attempt.
        wait_until(lambda: answers(f"{url}/api/v2/version"), 300)
        yield variables
    finally:
        for process in started:
            os.killpg(process.pid, signal.SIGTERM)
        for process in started:
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:  # noqa: S310 - its own server
            return bool(response.status == 200)
    except OSError:
        return False


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"nothing within {seconds} s"
        time.sleep(1)


def ended(airflow: Airflow, days: Sequence[str]) -> bool:
    """Whether every task of every day has come to an end."""
    states = [state for day in days for state, _ in airflow.states(day).values()]
    return len(states) == len(days) * len(TASKS) and ENDED.issuperset(states)


def test_a_backfill_of_two_days_makes_two_partitions(airflow: Airflow, incoming: Path) -> None:
    target = airflow.home / "backfilled"
    before = tree(incoming)
    first, last = MORE
    with services(airflow) as variables:
        code, told = airflow.run(
            "backfill", "create", "--dag-id", "unlearnable", "--from-date", first,
            "--to-date", last, "--dag-run-conf", conf(target=str(target)), **variables,
        )  # fmt: skip
        assert code == 0, told
        wait_until(lambda: ended(airflow, MORE), 1200)
    assert {day: airflow.states(day) for day in MORE} == dict.fromkeys(MORE, green("convert"))
    assert sorted(path.name for path in (target / "protected").iterdir()) == [first, last]
    assert all(published(target / "protected" / day) for day in MORE)
    assert tree(incoming) == before
