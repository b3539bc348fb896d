"""`kill -9` at random instants, then the same command again: the bytes of an undisturbed run."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from runs import command, descendants, differences, digests, kept, kill, place

# Generous: on a busy machine a cluster and its actors need minutes to start.
pytestmark = pytest.mark.timeout(1200)

SHARDS = 12


@pytest.fixture(scope="module")
def many(build_shards: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_shards(tmp_path_factory.mktemp("many") / "in", shards=SHARDS, samples=12, seed=5)


@pytest.fixture(scope="module")
def undisturbed(many: Path, surrogate: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("undisturbed") / "out"
    subprocess.run(command(many, output, surrogate, "--executor", "local"), check=True)
    assert len(digests(output)) == 2 * SHARDS
    return output


def assert_ledger_is_true(output: Path) -> int:
    """Whatever is on record is there, whole; return how many shards are."""
    records = list(kept(output).glob("_ledger/shard-???.json"))
    for path in records:
        record = json.loads(path.read_text())
        for name, key in (("{}.tar", "shard"), ("manifest/{}.parquet", "manifest")):
            data = place(output, name.format(record["shard"])).read_bytes()
            assert hashlib.sha256(data).hexdigest() == record[f"{key}_sha256"]
    assert len(records) == SHARDS or not (output / "_SUCCESS").exists()
    return len(records)


def disturb(kind: str, seed: int, source: Path, output: Path, surrogate: str, cluster: str) -> None:
    """Run the command, kill what ``kind`` says at an instant drawn from ``seed``, run it again."""
    rng = random.Random(seed)
    ray = () if kind == "local" else ("--executor", "ray", "--workers", "2")
    line = command(source, output, surrogate, *(ray or ("--executor", "local")))
    environment = dict(os.environ)
    environment.pop("RAY_ADDRESS", None)
    if kind in {"driver", "actor"}:
        environment["RAY_ADDRESS"] = cluster
    process = subprocess.Popen(line, env=environment, start_new_session=True)
    try:
        committed = rng.randrange(SHARDS - 2)
        while len(list(kept(output).glob("_ledger/*.json"))) < committed or not output.exists():
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(rng.random() * 0.5)
        if kind == "actor":
            below = descendants(os.getpid()).items()
            kill([pid for pid, name in below if "ray::ShardActor" in name][:1])
            assert process.wait(timeout=600) == 0
        elif kind == "everything":
            kill([process.pid, *descendants(process.pid)])
        else:
            kill([process.pid])
        process.wait(timeout=600)
    finally:
        kill([process.pid])
    assert_ledger_is_true(output)
    assert subprocess.run(line, env=environment, check=False, timeout=600).returncode == 0


@pytest.mark.parametrize("seed", range(3))
def test_a_killed_driver_resumes_to_equal_bytes(
    seed: int, many: Path, surrogate: str, undisturbed: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    disturb("local", seed, many, output, surrogate, "")
    assert digests(output) == digests(undisturbed), differences(output, undisturbed)
    assert assert_ledger_is_true(output) == SHARDS


@pytest.mark.ray
def test_a_killed_actor_is_replaced_without_a_trace_in_the_bytes(
    many: Path, surrogate: str, undisturbed: Path, tmp_path: Path, ray_cluster: str
) -> None:
    output = tmp_path / "out"
    disturb("actor", 3, many, output, surrogate, ray_cluster)
    assert digests(output) == digests(undisturbed), differences(output, undisturbed)


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(20))
def test_twenty_random_instants(
    seed: int,
    many: Path,
    surrogate: str,
    undisturbed: Path,
    tmp_path: Path,
    ray_cluster: str,
) -> None:
    kind = ("local", "driver", "actor", "everything")[seed % 4]
    output = tmp_path / "out"
    disturb(kind, 100 + seed, many, output, surrogate, ray_cluster)
    assert digests(output) == digests(undisturbed), differences(output, undisturbed)
    assert assert_ledger_is_true(output) == SHARDS
    assert not list(output.rglob("*.tmp"))
