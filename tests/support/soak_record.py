"""What is noted of a soak: faults, windows of throughput, the life of each process."""

from __future__ import annotations

import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

from processes import Process

WINDOW_SECONDS = 600.0
# A process that lived shorter tells nothing about leaks.
LONG_SECONDS = 180.0
ROLES = {
    "ray::ShardActor": "worker",
    "unlearnable protect": "driver",
    "raylet/raylet": "raylet",
    "gcs_server": "gcs",
}

Life = list[tuple[float, float, int]]


def role_of(process: Process) -> str:
    return next((role for part, role in ROLES.items() if part in process.name), "")


class Record:
    """Counters and series of one soak; ``samples`` is the number in a shard."""

    def __init__(self, samples: int) -> None:
        self.samples = samples
        self.laps = self.trusted = self.retries = self.shards = self.requests = 0
        self.faults: Counter[str] = Counter()
        self.harms: Counter[str] = Counter()
        self.exits: Counter[int] = Counter()
        self.attempts: Counter[int] = Counter()
        self.windows: list[dict[str, float]] = []
        self.lives: dict[tuple[str, int, int], Life] = defaultdict(list)
        self._cpu: dict[tuple[int, int], float] = {}
        self._started = self._window = time.monotonic()
        self._committed = 0
        self._sums: Counter[str] = Counter()

    def begin(self) -> None:
        self._started = self._window = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    def fault(self, kind: str) -> None:
        self.faults[kind] += 1
        self._sums["faults"] += 1

    def look(self, processes: Iterable[Process], committed: int, requests: int) -> None:
        """Add what is seen now; ``committed`` counts the shards of the lap."""
        now = time.monotonic()
        self.requests += requests
        self._sums["shards"] += max(0, committed - self._committed)
        self._committed = committed
        for process in processes:
            role = role_of(process)
            if not role:
                continue
            identity = process.pid, process.born
            self.lives[role, *identity].append((now, process.memory, process.files))
            # The first sight of a process comes seconds after its birth: imports are left out.
            used = process.cpu - self._cpu.get(identity, process.cpu)
            self._cpu[identity] = process.cpu
            if role == "worker" and ".run" in process.name:
                self._sums["cpu"] += used
        if now - self._window >= WINDOW_SECONDS:
            self._close_window(now)

    def lap(self, attempts: Counter[int], retries: int, shards: int) -> None:
        self.attempts += attempts
        self.retries += retries
        self.shards += shards
        self._committed = 0

    def _close_window(self, now: float) -> None:
        samples, cpu = self._sums["shards"] * self.samples, self._sums["cpu"]
        self.windows.append(
            {
                "minute": round((now - self._started) / 60, 1),
                "samples": samples,
                "samples_per_second": round(samples / (now - self._window), 2),
                "samples_per_worker_cpu_second": round(samples / cpu, 2) if cpu else 0.0,
                "faults": self._sums["faults"],
            }
        )
        self._window = now
        self._sums.clear()

    def growth(self) -> dict[str, dict[str, float]]:
        """By role, over the processes that lived long: the second quarter of life and the last.

        Medians of each quarter, of these the largest growth of any process.
        """
        result: dict[str, dict[str, float]] = {}
        for (role, *_), life in self.lives.items():
            seconds = life[-1][0] - life[0][0]
            if seconds < LONG_SECONDS:
                continue
            quarter = len(life) // 4
            early, late = life[quarter : 2 * quarter], life[-quarter:]
            memory = [statistics.median(m for _, m, _ in part) for part in (early, late)]
            files = [statistics.median(f for _, _, f in part) for part in (early, late)]
            row = result.setdefault(
                role,
                {"processes": 0, "longest_seconds": 0, "memory_mb": 0, "memory_growth_mb": -1e9,
                 "files": 0, "files_growth": -1e9},
            )  # fmt: skip
            row["processes"] += 1
            row["longest_seconds"] = max(row["longest_seconds"], round(seconds))
            row["memory_mb"] = max(row["memory_mb"], round(memory[1]))
            row["memory_growth_mb"] = max(row["memory_growth_mb"], round(memory[1] - memory[0], 1))
            row["files"] = max(row["files"], round(files[1]))
            row["files_growth"] = max(row["files_growth"], round(files[1] - files[0], 1))
        return result

    def as_dict(self) -> dict[str, Any]:
        return {
            "minutes": round(self.seconds / 60, 1),
            "laps": self.laps,
            "shards": self.shards,
            "samples": self.shards * self.samples,
            "faults": self.faults.total(),
            "faults_by_kind": dict(self.faults.most_common()),
            "storage_harms": dict(self.harms.most_common()),
            "driver_exits": {str(code): count for code, count in sorted(self.exits.items())},
            "attempts_of_shards": {str(n): count for n, count in sorted(self.attempts.items())},
            "storage_operations_repeated": self.retries,
            "requests": self.requests,
            "shards_read_by_trusting_the_ledger": self.trusted,
            "windows": self.windows,
            "long_lived_processes": self.growth(),
        }
