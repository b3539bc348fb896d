"""A Ray head with its job server, as a user starts it: ``ray start --head``."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

_START_SECONDS = 180.0


@dataclass
class RayHead:
    """Addresses of a head, and what it takes to start nodes that join it.

    ``gcs`` is what RAY_ADDRESS holds inside the cluster, ``jobs`` the URL of the job server.
    """

    gcs: str
    jobs: str
    folder: Path
    environment: dict[str, str]
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, name: str, *options: str) -> subprocess.Popen[bytes]:
        """Start a node; it ends with the head at the latest."""
        line = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *options]
        with (self.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                line, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )
        self.processes.append(process)
        return process


@contextmanager
def ray_head(cpus: int = 2) -> Iterator[RayHead]:
    """Yield a head of ``cpus`` slots; its processes are killed afterwards, and no others."""
    # Not below pytest's folder: the path of a socket is short.
    folder = Path(tempfile.mkdtemp(prefix="ray-"))
    gcs, dashboard, client, agent = _free_ports(4)
    tools = str(Path(sys.executable).parent)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
        "PATH": f"{tools}:{os.environ.get('PATH', os.defpath)}",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(16),
        "OMP_NUM_THREADS": "1",
    }
    address = f"127.0.0.1:{gcs}"
    head = RayHead(address, f"http://127.0.0.1:{dashboard}", folder, environment)
    try:
        head.start(
            "head",
            "--head", "--node-ip-address=127.0.0.1", f"--port={gcs}", f"--num-cpus={cpus}",
            "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}",
            f"--ray-client-server-port={client}", f"--dashboard-agent-listen-port={agent}",
            f"--object-store-memory={100 << 20}", f"--temp-dir={folder}",
        )  # fmt: skip
        _wait_for_jobs(head)
        yield head
    finally:
        for process in reversed(head.processes):
            _end(process)
        shutil.rmtree(folder, ignore_errors=True)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _wait_for_jobs(head: RayHead) -> None:
    request = urllib.request.Request(  # noqa: S310 - a server of this test
        f"{head.jobs}/api/jobs/",
        headers={"Authorization": f"Bearer {head.environment['RAY_AUTH_TOKEN']}"},
    )
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end:
        with suppress(OSError), urllib.request.urlopen(request, timeout=5):  # noqa: S310
            return
        assert head.processes[0].poll() is None, (head.folder / "head.log").read_text()[-2000:]
        time.sleep(0.5)
    raise TimeoutError((head.folder / "head.log").read_text()[-2000:])


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
