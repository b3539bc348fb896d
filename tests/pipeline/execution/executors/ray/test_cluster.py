"""A Ray cluster of several nodes on this machine, and what can happen to it during a run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import memory
from runs import (
    Digests,
    attempts,
    await_that,
    committed,
    descendants,
    digests,
    events,
    harmful,
    kept,
    kill,
    random_command,
    random_options,
    returned,
)

from unlearnable.pipeline.execution.status import run_status

pytestmark = [pytest.mark.timeout(1800), pytest.mark.ray, pytest.mark.slow]

SHARDS = 10
SMALL = {"object_store_memory": 80 << 20}


@pytest.fixture(scope="module")
def source(build_shards: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_shards(tmp_path_factory.mktemp("nodes") / "in", shards=SHARDS, samples=12, seed=6)


@pytest.fixture(scope="module")
def undisturbed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Digests:
    output = tmp_path_factory.mktemp("plain") / "out"
    subprocess.run(random_command(source, output, "--executor", "local"), check=True)
    assert len(digests(output)) == 2 * SHARDS
    return digests(output)


def start_cluster(**environment: str) -> Any:
    """A head without processors, and a node with one and variables of its own."""
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    facts = {"num_cpus": 0, "include_dashboard": False, **SMALL}
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args=facts)
    cluster.add_node(num_cpus=1, env_vars=environment, **SMALL)
    return cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    cluster = start_cluster()
    yield cluster
    cluster.shutdown()


def start(line: list[str], address: str, **environment: str) -> subprocess.Popen[str]:
    """Start a driver; what it says can be read from ``stderr``."""
    return subprocess.Popen(
        line,
        env={**os.environ, "RAY_ADDRESS": address, **environment},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def slow(source: Path, output: Path, *more: str, seconds: int = 2) -> list[str]:
    """A run with time to disturb it."""
    arguments = random_options(source, output, "--executor", "ray", *more)
    return harmful({"*": f"slow {seconds}"}, *arguments)


def ended(output: Path, outcome: str) -> list[dict[str, Any]]:
    return [e for e in events(output) if e["event"] == "shard_ended" and e["outcome"] == outcome]


def test_a_node_that_joins_is_used_and_one_that_dies_costs_no_attempt(
    cluster: Any, source: Path, undisturbed: Digests, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    line = slow(source, output, "--workers", "2")
    with start(line, cluster.address) as driver:
        # One of two workers has no room yet; the other one works on.
        await_that(lambda: committed(output) >= 1, driver, "a shard was committed")
        joined = cluster.add_node(num_cpus=1, **SMALL)
        here = f"node {joined.node_id}"

        def used() -> bool:
            return any(here in event.get("text", "") for event in events(output))

        await_that(used, driver, "the new node had a worker")
        before = committed(output)
        await_that(lambda: committed(output) > before, driver, "a shard was committed there")
        cluster.remove_node(joined, allow_graceful=False)
        assert driver.wait(timeout=600) == 0, driver.stderr.read()
    assert digests(output) == undisturbed
    assert set(attempts(output).values()) == {1}
    assert [reason for reason in returned(output) if "its node was lost" in reason]
    assert not ended(output, "again")


def test_a_killed_actor_costs_an_attempt_and_a_killed_driver_none(
    cluster: Any, source: Path, undisturbed: Digests, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    line = slow(source, output, "--workers", "1")
    with start(line, cluster.address) as driver:
        await_that(lambda: committed(output) >= 1, driver, "a shard was committed")
        [node] = cluster.worker_nodes
        raylet = node.all_processes["raylet"][0].process.pid
        below = descendants(raylet).items()
        mine = [pid for pid, name in below if "ray::ShardActor" in name]
        kill(mine)
        assert len(mine) == 1
        await_that(lambda: bool(ended(output, "again")), driver, "the death was noticed")
        done = committed(output)
        await_that(lambda: committed(output) > done, driver, "the next worker had committed")
        driver.kill()
    assert "the actor died" in ended(output, "again")[0]["error"]
    assert committed(output) < SHARDS
    with start(line, cluster.address) as driver:
        assert driver.wait(timeout=600) == 0, driver.stderr.read()
    assert digests(output) == undisturbed
    assert sorted(attempts(output).values()) == [1] * (SHARDS - 1) + [2]


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_end_a_run_on_ray_and_the_same_command_resumes(
    signum: int,
    code: int,
    cluster: Any,
    source: Path,
    undisturbed: Digests,
    tmp_path: Path,
) -> None:
    output = tmp_path / "out"
    line = slow(source, output, "--workers", "1")
    with start([*line, "--grace-seconds", "120"], cluster.address) as driver:
        await_that(lambda: committed(output) >= 1, driver, "a shard was committed")
        driver.send_signal(signum)
        assert driver.wait(timeout=200) == code, driver.stderr.read()
    begun = {e["shard"] for e in events(output) if e["event"] == "shard_begun"}
    returned = {e["shard"] for e in events(output) if e["event"] == "shard_returned"}
    done = committed(output)
    assert 1 <= done < SHARDS
    if signum == signal.SIGTERM:
        # Whatever was in work was brought to its end; what only waited was given back.
        assert {path.stem for path in kept(output).glob("_ledger/*.json")} == begun - returned
    with start(line, cluster.address) as driver:
        assert driver.wait(timeout=600) == 0, driver.stderr.read()
    assert digests(output) == undisturbed


def test_poison_and_a_hang_fail_alone_and_are_named_meanwhile(
    cluster: Any, source: Path, undisturbed: Digests, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    harm = {"shard-001": "poison", "shard-003": "hang"}
    more = ("--executor", "ray", "--workers", "1", "--max-attempts", "2", "--shard-timeout", "45")
    arguments = random_options(source, output, *more)
    with start(harmful(harm, *arguments), cluster.address) as driver:

        def named() -> bool:
            if not (kept(output) / "_plan.parquet").exists():
                return False
            return "in work: shard-003, attempt 1 on" in str(run_status(str(output)))

        await_that(named, driver, "status named the shard that hangs")
        assert driver.wait(timeout=900) == 3, driver.stderr.read()
        printed = driver.stdout.read()
    assert "failed: shard-001: 2 attempts: the actor died" in printed
    assert "failed: shard-003: 2 attempts: no result within 45 s (--shard-timeout)" in printed
    assert {e["shard"] for e in ended(output, "failed")} == set(harm)
    expected = {n: d for n, d in undisturbed.items() if not any(shard in n for shard in harm)}
    assert digests(output) == expected
    retry = [sys.executable, "-m", "unlearnable", "retry", str(output), "--executor", "ray"]
    with start(retry, cluster.address) as driver:
        assert driver.wait(timeout=600) == 0, driver.stderr.read()
    assert digests(output) == undisturbed


@pytest.fixture
def small_group() -> Iterator[Path]:
    """A control group of this machine with 1.2 GB of memory, where one can be made."""
    root = Path("/sys/fs/cgroup/memory")
    limit = "memory.limit_in_bytes" if root.exists() else "memory.max"
    group = (root if root.exists() else root.parent) / f"unlearnable-{os.getpid()}"
    try:
        group.mkdir()
        (group / limit).write_text(str(1200 << 20))
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    yield group
    for pid in (group / "cgroup.procs").read_text().split():
        kill([int(pid)])
    group.rmdir()


def test_a_worker_that_leaks_is_killed_by_the_system_and_its_shard_fails_alone(
    cluster: Any,
    source: Path,
    undisturbed: Digests,
    tmp_path: Path,
    small_group: Path,
) -> None:
    output = tmp_path / "out"
    more = ("--executor", "ray", "--workers", "1", "--max-attempts", "2")
    line = harmful({"shard-002": "leak"}, *random_options(source, output, *more))
    # Workers inherit the environment of their node, not that of the driver: the path travels.
    with start(line, cluster.address, LEAK_GROUP=str(small_group)) as driver:
        assert driver.wait(timeout=900) == 3, driver.stderr.read()
        assert "failed: shard-002: 2 attempts: the actor died" in driver.stdout.read()
    assert digests(output) == {n: d for n, d in undisturbed.items() if "shard-002" not in n}


def test_a_worker_that_leaks_is_killed_by_rays_memory_monitor_and_its_shard_fails_alone(
    source: Path, undisturbed: Digests, tmp_path: Path
) -> None:
    total, available = memory()
    if available < 8 << 30:
        pytest.skip("needs 8 GB of free memory, half of which others may take meanwhile")
    limit = (total - available + (4 << 30)) / total
    output = tmp_path / "out"
    more = ("--executor", "ray", "--workers", "1", "--max-attempts", "2")
    line = harmful({"shard-002": "leak"}, *random_options(source, output, *more))
    cluster = start_cluster(RAY_memory_usage_threshold=f"{limit:.4f}")
    try:
        with start(line, cluster.address) as driver:
            assert driver.wait(timeout=900) == 3, driver.stderr.read()
            assert "failed: shard-002: 2 attempts: the actor died" in driver.stdout.read()
    finally:
        cluster.shutdown()
    assert "running low on memory" in ended(output, "again")[0]["error"]
    assert digests(output) == {n: d for n, d in undisturbed.items() if "shard-002" not in n}


@pytest.mark.parametrize("again", [False, True], ids=["gone", "restarted"])
def test_without_its_head_a_run_ends_and_can_be_resumed(
    again: bool, source: Path, undisturbed: Digests, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    # Workers go on without a head: shards that take long keep the run from ending meanwhile.
    line = slow(source, output, "--workers", "1", seconds=10)
    cluster = start_cluster()
    port = int(cluster.address.rpartition(":")[2])
    try:
        with start(line, cluster.address) as driver:
            await_that(lambda: committed(output) >= 1, driver, "a shard was committed")
            cluster.head_node.kill_all_processes(check_alive=False, allow_graceful=False, wait=True)
            cluster.head_node = None
            if again:
                cluster.add_node(num_cpus=0, include_dashboard=False, gcs_server_port=port, **SMALL)
            assert driver.wait(timeout=120) == 3, driver.stderr.read()
            assert "is lost" in driver.stderr.read()
        assert committed(output) < SHARDS
    finally:
        cluster.shutdown()
    cluster = start_cluster()
    try:
        with start(slow(source, output, "--workers", "1"), cluster.address) as driver:
            assert driver.wait(timeout=600) == 0, driver.stderr.read()
    finally:
        cluster.shutdown()
    assert digests(output) == undisturbed
