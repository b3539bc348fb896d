"""What is in work now: kept by the driver, told with the heartbeat of its lease."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from threading import Lock

log = logging.getLogger(__name__)

# A shard from which nothing comes for so long is named in the log, once.
SILENT_SECONDS = 300.0


@dataclass(frozen=True)
class InWork:
    """One attempt at one shard that is not over.

    Attributes:
        shard: name of the shard.
        attempt: 1 for the first.
        since: when it was given to a worker, or begun by one, in seconds since 1970.
        node: host and process where that is known; empty while it only waits for its worker.
        samples: samples done; they count up while the worker lives.
        moved: when ``samples`` last changed.
        heard: when the worker last answered.
    """

    shard: str
    attempt: int
    since: float
    node: str = ""
    samples: int = 0
    moved: float = 0.0
    heard: float = 0.0

    def __str__(self) -> str:
        now = time.time()
        where = f" on {self.node}" if self.node else ""
        text = f"{self.shard}, attempt {self.attempt}{where}, {now - self.since:.0f} s"
        if self.samples:
            text += f", {self.samples} samples"
        if self.moved and now - self.moved > SILENT_SECONDS / 5:
            text += f", nothing done for {now - self.moved:.0f} s"
        if self.heard and now - self.heard > SILENT_SECONDS / 5:
            text += f", no sign of life for {now - self.heard:.0f} s"
        return text


class InFlight:
    """The attempts in work by shard; read by the thread that renews the lease."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._entries: dict[str, InWork] = {}
        self._named: set[str] = set()
        self._ask: dict[str, Callable[[], int]] = {}

    def add(self, shard: str, attempt: int) -> None:
        """Enter an attempt that was given to a worker."""
        now = time.time()
        with self._lock:
            self._entries[shard] = InWork(shard, attempt, now)

    def begin(self, shard: str, node: str, ask: Callable[[], int] | None = None) -> None:
        """Say that a worker on ``node`` begins with it; ``ask`` gives the samples done so far."""
        now = time.time()
        self._ask = {shard: ask} if ask is not None else {}
        self._change(shard, since=now, node=node, moved=now, heard=now)

    def beat(self, shard: str, samples: int) -> None:
        """Say that its worker lives and has done so many samples."""
        with self._lock:
            before = self._entries.get(shard)
        if before is not None:
            now = time.time()
            moved = now if samples != before.samples else before.moved
            self._change(shard, samples=samples, moved=moved, heard=now)

    def remove(self, shard: str) -> None:
        """Strike out what is over or was taken back."""
        with self._lock:
            self._entries.pop(shard, None)
            self._named.discard(shard)

    def entries(self) -> list[InWork]:
        """What is in work, the longest first."""
        for shard, ask in list(self._ask.items()):
            self.beat(shard, ask())
        with self._lock:
            return sorted(self._entries.values(), key=lambda entry: entry.since)

    def samples(self) -> int:
        """Return the samples done of all that is in work."""
        return sum(entry.samples for entry in self.entries())

    def name_silent(self) -> None:
        """Name shards in the log from which nothing has come for long."""
        now = time.time()
        for entry in self.entries():
            late = entry.moved and now - entry.moved > SILENT_SECONDS
            if late and entry.shard not in self._named:
                self._named.add(entry.shard)
                log.warning("shard %s may hang (--shard-timeout would end it)", entry)

    def _change(self, shard: str, **facts: object) -> None:
        with self._lock:
            if shard in self._entries:
                self._entries[shard] = replace(self._entries[shard], **facts)  # type: ignore[arg-type]
