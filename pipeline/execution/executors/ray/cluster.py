"""Connecting to a cluster, and noticing that its head is gone."""

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self
from urllib.parse import urlsplit

import ray
from ray.exceptions import RayError

from ....errors import UnlearnableError, UsageError

log = logging.getLogger(__name__)

_PROBE_SECONDS = 5.0
_WATCH_SECONDS = 2.0
_PAUSE_SECONDS = 0.1
# Ray ends a process that has not reached the head for 60 s, without a word.
_LOST_SECONDS = 25.0


class ClusterLostError(UnlearnableError):
    """The head of the cluster is gone; what is committed stays, the same command resumes."""

    exit_code = 3


class HeadWatch:
    """Asks in a thread of its own whether the head of the cluster is still the one it was.

    A context manager. A head that was started anew knows nothing of this driver and its actors,
    and Ray itself would wait for them without an end.
    """

    def __init__(self) -> None:
        self._address = ray.get_runtime_context().gcs_address
        self._lock = threading.Lock()
        self._answered, self._refused = time.monotonic(), False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="head", daemon=True)
        self.lost = ""

    def check(self) -> None:
        """Raise ClusterLostError when the head is gone."""
        if self.lost:
            raise ClusterLostError(
                f"the Ray cluster at {self._address} is lost: {self.lost}; start it again if need "
                f"be and run the same command to go on"
            )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()

    def look(self) -> None:
        """Ask now. Nothing of Ray may be asked here: of a new head it ends the process."""
        line = self._look()
        if line is not None:
            line.close()

    def _watch(self) -> None:
        while not self.lost and not self._ended.is_set():
            line = self._look()
            if line is None:
                self._ended.wait(_WATCH_SECONDS)
                continue
            with line:
                self._ended.wait(_PAUSE_SECONDS)
                _listen(line)

    def _look(self) -> socket.socket | None:
        """Judge the head; return a connection to it when it answers."""
        with self._lock:
            line = self._connect()
            now = time.monotonic()
            if line is not None:
                if self._refused:
                    self.lost = "its head was started anew and knows nothing of this run"
                self._answered = now
            elif now - self._answered > _LOST_SECONDS:
                self.lost = f"its head has not answered for {_LOST_SECONDS:.0f} s"
            return line

    def _connect(self) -> socket.socket | None:
        host, _, port = self._address.rpartition(":")
        try:
            return socket.create_connection((host.strip("[]"), int(port)), _PROBE_SECONDS)
        except ConnectionRefusedError:
            # Not the network: there is no such process now.
            self._refused = True
        except OSError:
            pass
        return None


def _listen(line: socket.socket) -> None:
    """Wait a while or until the head hangs up: else one that is back at once would go unnoticed."""
    end = time.monotonic() + _WATCH_SECONDS
    while (left := end - time.monotonic()) > 0:
        line.settimeout(left)
        try:
            if not line.recv(1 << 12):
                return
        except OSError:  # or the time is over
            return


def is_dead(node: str) -> bool:
    """Whether the cluster counts the node of that id as dead."""
    return any(entry["NodeID"] == node and not entry["Alive"] for entry in ray.nodes())


@contextmanager
def connection(workers: int) -> Iterator[None]:
    """Use this process's cluster or that of RAY_ADDRESS, else start one for the time of the run.

    Raises:
        UsageError: nothing answers at RAY_ADDRESS.
    """
    if ray.is_initialized():
        yield
        return
    # ray.init takes SIGTERM over, which would end the driver without a word.
    handler = signal.getsignal(signal.SIGTERM)
    address = os.environ.get("RAY_ADDRESS")
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.WARNING}
    if address:
        _join(address, options)
    else:
        cpus = max(workers, os.cpu_count() or 1)
        ray.init(address="local", num_cpus=cpus, include_dashboard=False, **options)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        ray.shutdown()


def _join(address: str, options: dict[str, Any]) -> None:
    """Connect to a running cluster; ray.init alone tries a dead one for minutes."""
    try:
        parts = urlsplit(address if "://" in address else f"//{address}")
        if parts.hostname and parts.port:
            socket.create_connection((parts.hostname, parts.port), _PROBE_SECONDS).close()
        ray.init(**options)
    except (OSError, RuntimeError, ValueError, RayError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UsageError(
            f"no Ray cluster answers at RAY_ADDRESS={address} ({reason}); start it or correct the "
            "address, or unset RAY_ADDRESS to run on this machine alone"
        ) from error
