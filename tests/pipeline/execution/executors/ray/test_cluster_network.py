"""A Ray cluster of separate `ray start` processes in networks of their own, one of them cut."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from runs import (
    attempts,
    await_that,
    committed,
    descendants,
    digests,
    events,
    harmful,
    kill,
    random_command,
    random_options,
    returned,
)

pytestmark = [pytest.mark.timeout(1800), pytest.mark.ray, pytest.mark.slow]

ADDRESS = "10.213.77.{}"
IP = shutil.which("ip") or "ip"
PORT = 6379  # in networks of the test's own nothing else listens


class Network:
    """Network namespaces ``0``, ``1``, ``2``: a bridge in the first, the others plugged into it."""

    def __init__(self) -> None:
        self.names = [f"un{os.getpid()}-{number}" for number in range(3)]
        self.processes: list[subprocess.Popen[str]] = []

    def make(self) -> None:
        hub = self.names[0]
        for name in self.names:
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        ip("-n", hub, "link", "add", "bridge", "type", "bridge")
        ip("-n", hub, "addr", "add", f"{ADDRESS.format(1)}/24", "dev", "bridge")
        ip("-n", hub, "link", "set", "bridge", "up")
        for number, name in enumerate(self.names[1:], start=1):
            cable = f"port{number}"
            ip("link", "add", cable, "netns", hub, "type", "veth", "peer", "eth0", "netns", name)
            ip("-n", hub, "link", "set", cable, "master", "bridge", "up")
            ip("-n", name, "addr", "add", f"{ADDRESS.format(1 + number)}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")

    def cut(self, number: int) -> None:
        """Pull the cable of namespace ``number``: nothing comes or goes, nothing is refused."""
        ip("-n", self.names[0], "link", "set", f"port{number}", "down")

    def start(self, number: int, line: list[str], log: Path) -> subprocess.Popen[str]:
        """Start a process in namespace ``number``."""
        with log.open("w") as out:
            process = subprocess.Popen(
                [IP, "netns", "exec", self.names[number], *line],
                stdout=out,
                stderr=subprocess.STDOUT,
                text=True,
                # A token in somebody's home is none of this cluster's, which nothing else reaches.
                env={
                    **os.environ,
                    "RAY_ADDRESS": f"{ADDRESS.format(1)}:{PORT}",
                    "RAY_AUTH_MODE": "disabled",
                },
            )
        self.processes.append(process)
        return process

    def remove(self) -> None:
        for process in self.processes:
            kill([process.pid, *descendants(process.pid)])
            process.wait()
        for name in self.names:
            done = subprocess.run(
                [IP, "netns", "pids", name], capture_output=True, text=True, check=False
            )
            kill([int(pid) for pid in done.stdout.split()])
            subprocess.run([IP, "netns", "del", name], capture_output=True, check=False)


def ip(*arguments: str) -> None:
    subprocess.run([IP, *arguments], capture_output=True, text=True, check=True)


@pytest.fixture
def network() -> Iterator[Network]:
    if not shutil.which(IP):
        pytest.skip("needs iproute2")
    network = Network()
    try:
        try:
            network.make()
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network namespaces can be made here: {error.stderr}")
        yield network
    finally:
        network.remove()


def start_node(network: Network, number: int, logs: Path, *options: str) -> None:
    """Start a node of the cluster in namespace ``number`` and wait until it is there."""
    line = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *options]
    line += ["--disable-usage-stats", "--object-store-memory=80000000"]
    log = logs / f"node{number}.log"
    process = network.start(number, line, log)
    await_that(lambda: "Ray runtime started" in log.read_text(), process, f"node {number} started")


def test_a_node_that_is_cut_off_costs_no_attempt(
    network: Network,
    build_shards: Callable[..., Path],
    tmp_path: Path,
) -> None:
    source = build_shards(tmp_path / "in", shards=10, samples=12, seed=7)
    plain, output = tmp_path / "plain", tmp_path / "out"
    subprocess.run(random_command(source, plain, "--executor", "local"), check=True)
    # Paths of sockets have to be short.
    with tempfile.TemporaryDirectory(prefix="un", dir="/tmp") as folder:
        head = [f"--node-ip-address={ADDRESS.format(1)}", f"--port={PORT}", "--head"]
        head += ["--num-cpus=0", "--include-dashboard=false", f"--temp-dir={folder}"]
        start_node(network, 0, tmp_path, *head)
        # One after the other: nodes of one machine choose the names of their sockets by looking.
        for number in (1, 2):
            node = [f"--node-ip-address={ADDRESS.format(1 + number)}", "--num-cpus=1"]
            start_node(network, number, tmp_path, f"--address={ADDRESS.format(1)}:{PORT}", *node)
        arguments = random_options(source, output, "--executor", "ray", "--workers", "2")
        line = harmful({"*": "slow 8"}, *arguments)
        driver = network.start(0, line, tmp_path / "driver.log")

        def at_work(number: int) -> bool:
            place = f"a worker has started on {ADDRESS.format(1 + number)} "
            return any(place in event.get("text", "") for event in events(output))

        await_that(lambda: at_work(1) and at_work(2), driver, "both nodes worked")
        await_that(lambda: committed(output) >= 2, driver, "shards were committed")
        network.cut(2)
        assert driver.wait(timeout=900) == 0, (tmp_path / "driver.log").read_text()
    assert digests(output) == digests(plain)
    assert set(attempts(output).values()) == {1}
    assert [reason for reason in returned(output) if "node was lost" in reason or "reach" in reason]
