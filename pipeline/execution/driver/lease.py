"""Who writes to an output now: one file a run in its record's ``_lease/``, renewed by its driver.

Every run has its own file and looks at those of the others, so that nothing but a store whose
listing shows what was written before is needed: no locks, no conditional writes. A run *claims*
first; of two claims the one with the lower id goes on and the other one gives way. A run that died
leaves its file behind, which stops counting when it expires, or at once where its process is seen
to be gone. Clocks of the machines have to agree to some seconds.
"""

import json
import logging
import os
import random
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from ...data import storage
from ...data.typed_json import parse
from ...errors import BusyError, UsageError
from .in_flight import InFlight, InWork
from .stop import StopFlag

log = logging.getLogger(__name__)

LEASE_DIR = "_lease"
LEASE_SECONDS = 120.0
HEARTBEAT_SECONDS = 20.0
_POLL_SECONDS = 0.5
# Times that a lease is written before a file that vanishes is an error.
_WRITES = 10
_LONGEST = 86_400.0


@dataclass(frozen=True)
class Lease:
    """One run's right to write to an output.

    Attributes:
        run: id of the run; ids of runs that begin later sort behind.
        config_hash: configuration of its output.
        host: name of the machine of its driver, for people.
        pid: process number of the driver.
        machine: tells whether ``pid`` can be looked up here.
        process: tells the process from a later one of the same number.
        state: ``claimed`` until the run has made sure that it may go on.
        heartbeat: when it was renewed, in seconds since 1970.
        expires: when it stops counting.
        working: the attempts in work at that heartbeat by shard: the fields of `InWork`.
    """

    run: str
    config_hash: str
    host: str
    pid: int
    machine: str
    process: str
    state: Literal["claimed", "held"]
    heartbeat: float
    expires: float
    working: dict[str, Any] = field(default_factory=dict)

    @property
    def in_work(self) -> list[InWork]:
        """The attempts in work at the last heartbeat."""
        found = []
        for fields in self.working.values():
            with suppress(ValueError):
                found.append(parse(InWork, json.dumps(fields).encode()))
        return found

    @property
    def live(self) -> bool:
        """Whether it has not expired and its process is not known to be dead."""
        # One that would hold for days was not written by a run: it must not block the output.
        if not 0 < self.expires - time.time() < _LONGEST:
            return False
        return self.machine != _machine() or _is_running(self.pid, self.process)

    def __str__(self) -> str:
        until = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.expires))
        return f"run {self.run} (host {self.host}, process {self.pid}, lease until {until})"


def new_run_id() -> str:
    """Return an id that sorts by time."""
    return f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{secrets.token_hex(4)}"


def read_leases(record: str) -> list[Lease]:
    """Return the leases at an output that count now, in the order of their ids."""
    folder = storage.join(record, LEASE_DIR)
    leases = []
    for name in storage.list_names(folder):
        # One that vanished has ended; one that cannot be read protects nobody.
        with suppress(FileNotFoundError, ValueError):
            leases.append(parse(Lease, storage.read_bytes(storage.join(folder, name))))
    return sorted((lease for lease in leases if lease.live), key=lambda lease: lease.run)


class OutputLease:
    """A run's hold on an output; a context manager that gives it up.

    Args:
        record: URL of the record of the output.
        config_hash: configuration that the run writes.
        join: whether to work beside another run of the same configuration.

    Raises (on entering):
        BusyError: another run of this configuration holds the output.
        UsageError: one of another configuration does.
    """

    def __init__(self, record: str, config_hash: str, *, join: bool) -> None:
        self._record, self._join = record, join
        self._url = ""
        pid = os.getpid()
        self._lease = Lease(
            run=new_run_id(),
            config_hash=config_hash,
            host=socket.gethostname(),
            pid=pid,
            machine=_machine(),
            process=_process(pid),
            state="claimed",
            heartbeat=0.0,
            expires=0.0,
        )
        self._stopped = threading.Event()
        self._writing = threading.RLock()
        self._lost = ""
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self.others = 0
        self._board: InFlight | None = None

    @property
    def run(self) -> str:
        """Id of this run."""
        return self._lease.run

    def claim(self, stop: StopFlag) -> None:
        """Write the claim and wait until no other claim has to be settled first.

        Afterwards ``others`` is the number of runs that are joined. If it is 0 the output may be
        prepared now; nobody joins before :meth:`hold`. The claim is kept alive from here on.
        """
        self._write()
        self._thread.start()
        while True:
            stop.check()
            others = [lease for lease in read_leases(self._record) if lease.run != self.run]
            self._refuse(others)
            if _settled(others, join=self._join):
                self.others = len(others)
                return
            if self._join and any(self._goes_first(lease) for lease in others):
                # A claim in the way of the one that it waits for would make both wait.
                self._remove()
                self._wait_for_the_first(stop)
                with self._writing:
                    self._lease = replace(self._lease, run=new_run_id())
                    self._write()
            else:
                time.sleep(_POLL_SECONDS)

    def _wait_for_the_first(self, stop: StopFlag) -> None:
        """Wait without a claim: of hundreds that begin at once, one has to see no other."""
        while True:
            time.sleep(_POLL_SECONDS * (1 + random.random()))
            stop.check()
            if _settled(read_leases(self._record), join=True):
                return

    def hold(self) -> None:
        """Let others join.

        Raises:
            BusyError: the claim was lost while the output was prepared.
        """
        with self._writing:
            self._look()
            self.check()
            self._lease = replace(self._lease, state="held")
            self._write()

    def show(self, in_flight: InFlight) -> None:
        """Tell what is on ``in_flight`` with every heartbeat from now on."""
        self._board = in_flight

    def check(self) -> None:
        """Raise BusyError when the lease was lost, because it was not renewed in time."""
        if self._lost:
            raise BusyError(f"{self._record}: {self._lost}; run the same command to go on")

    def release(self) -> None:
        """Give the output up."""
        self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._remove()

    def _refuse(self, others: list[Lease]) -> None:
        for lease in others:
            if lease.state == "claimed" and not self._goes_first(lease):
                continue
            if lease.config_hash != self._lease.config_hash:
                raise UsageError(
                    f"the output of {self._record} is being written with another "
                    f"configuration by {lease}; wait for its end, or use another output folder"
                )
            if not self._join:
                raise BusyError(
                    f"the output of {self._record} is being written by {lease}; give --join to "
                    f"work beside it, or wait for its end and run the same command again"
                )

    def _goes_first(self, lease: Lease) -> bool:
        return lease.state == "claimed" and lease.run < self.run

    def _write(self) -> None:
        now = time.time()
        entries = self._board.entries() if self._board is not None else []
        working = {entry.shard: asdict(entry) for entry in entries}
        self._lease = replace(
            self._lease, heartbeat=now, expires=now + LEASE_SECONDS, working=working
        )
        self._url = storage.join(self._record, LEASE_DIR, f"{self.run}.json")
        data = json.dumps(asdict(self._lease), indent=1).encode()
        for left in reversed(range(_WRITES)):
            try:
                storage.write_bytes(self._url, data)
                return
            except FileNotFoundError:
                # A run that prepares the output sweeps away what is half-written in it.
                if not left:
                    raise

    def _remove(self) -> None:
        with self._writing:
            if self._url:
                storage.remove(self._url)
                self._url = ""

    def _look(self) -> None:
        if time.time() >= self._lease.expires or not storage.exists(self._url):
            self._lost = "this run lost its lease: it stood still for too long"

    def _renew(self) -> None:
        while not self._stopped.wait(HEARTBEAT_SECONDS):
            try:
                with self._writing:
                    if not self._url:
                        # It waits for another run, without a claim.
                        continue
                    self._look()
                    if self._lost:
                        return
                    self._write()
                if self._board is not None:
                    self._board.name_silent()
            except Exception as error:  # noqa: BLE001 - the next beat may succeed
                log.warning("cannot renew the lease of %s: %s", self._record, error)


def _settled(others: list[Lease], *, join: bool) -> bool:
    """Whether no claim of ``others`` is in the way of a run.

    Who joins a run that holds the output prepares nothing and need not wait for claims: whoever
    claims later sees one of the two.
    """
    states = {lease.state for lease in others}
    return "claimed" not in states or (join and "held" in states)


@contextmanager
def lease_output(
    record: str, config_hash: str, stop: StopFlag, *, join: bool
) -> Iterator[OutputLease]:
    """Claim the output of ``record`` for a run and give it up afterwards, however that ends.

    Raises:
        BusyError: another run of this configuration holds the output.
        UsageError: one of another configuration does.
    """
    lease = OutputLease(record, config_hash, join=join)
    try:
        lease.claim(stop)
        yield lease
    finally:
        # What a broken store keeps of it will expire.
        with suppress(OSError):
            lease.release()


def remove_expired(record: str) -> None:
    """Delete the files of leases that no longer count; others may be claiming one meanwhile."""
    folder = storage.join(record, LEASE_DIR)
    names = storage.list_names(folder)
    live = {f"{lease.run}.json" for lease in read_leases(record)}
    for name in names:
        if name not in live:
            storage.remove(storage.join(folder, name))
    storage.sweep(folder)


def _machine() -> str:
    """Name the running kernel and its process table: containers share a kernel, not numbers."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    try:
        return f"{boot.read_text().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return f"{socket.gethostname()} {os.getpid()}"


def _process(pid: int) -> str:
    """Return the time at which the process ``pid`` began, in kernel ticks; empty if not told."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return ""
    return "ended" if after_name[0] == "Z" else after_name[19]


def _is_running(pid: int, process: str) -> bool:
    found = _process(pid)
    if found:
        return found == process
    # Other users' processes may be hidden: then all that can be asked is whether one is there.
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
