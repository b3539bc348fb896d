"""A long run that is never left in peace, and what is seen of it from outside.

The run is repeated in laps, each to an output of its own, so that its length depends on the clock
and not on the machine. In every second lap nothing is killed: its processes live long enough to
show a leak.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fault_proxy import FaultProxy, Request, no_fault
from processes import below
from soak_record import Record

BUCKET = "soak"
STORAGE = (
    "slow-down", "error-500", "error-429", "refuse", "cut-request", "lose-answer", "cut-answer",
    "truncate", "slow",
)  # fmt: skip
GENTLE = ("storage", "storage", "outage", "pause-actor", "pause-driver")
DEADLY = ("kill-actor", "kill-actors", "kill-driver", "sigterm", "sigint")
SIGNALS = {
    "kill-driver": (signal.SIGKILL, -signal.SIGKILL),
    "sigterm": (signal.SIGTERM, 143),
    "sigint": (signal.SIGINT, 130),
}
BURST_SECONDS = 5.0
SHARE = 0.3

Digests = dict[str, str]


@dataclass(frozen=True)
class Settings:
    """How long, how often, how much; ``seed`` fixes the order of the faults, not their instants."""

    minutes: float
    fault_seconds: float
    shards: int
    samples: int
    seed: int = 0


def settled(name: str, data: bytes) -> str:
    """Digest of a file, a record's without what tells of its time and of its attempts."""
    if name.startswith("_ledger/"):
        record = json.loads(data)
        data = json.dumps(
            {
                k: v
                for k, v in record.items()
                if k not in {"timings", "queues", "attempts", "retries"}
            },
            sort_keys=True,
        ).encode()
    return hashlib.sha256(data).hexdigest()


class Store:
    """The objects as they are in the store itself, seen past the proxy."""

    def __init__(self, port: int) -> None:
        import boto3

        self.bucket = boto3.resource("s3", endpoint_url=f"http://127.0.0.1:{port}").Bucket(BUCKET)

    def names(self, prefix: str) -> set[str]:
        """Paths inside an output, or inside its record; none is in both."""
        starts = (prefix, f"{prefix.rstrip('/')}-record/")
        found = [(s, item) for s in starts for item in self.bucket.objects.filter(Prefix=s)]
        return {item.key.removeprefix(start) for start, item in found}

    def read(self, prefix: str, name: str) -> bytes:
        kept = name.startswith(("_ledger/", "manifest/", "_log/", "_lease/", "_plan"))
        start = f"{prefix.rstrip('/')}-record/" if kept else prefix
        data: bytes = self.bucket.Object(start + name).get()["Body"].read()
        return data

    def digests(self, prefix: str) -> Digests:
        names = [name for name in self.names(prefix) if not name.startswith("_log/")]
        return {name: settled(name, self.read(prefix, name)) for name in names}

    def clear(self, prefix: str) -> None:
        for start in (prefix, f"{prefix.rstrip('/')}-record/"):
            self.bucket.objects.filter(Prefix=start).delete()


@dataclass
class Driver:
    """The process that runs the command, and the exit codes that it was given reasons for."""

    process: subprocess.Popen[bytes]
    committed: int
    codes: set[int] = field(default_factory=lambda: {0})


class Soak:
    """Runs laps until the time is over, and looks at them while they run."""

    def __init__(
        self, settings: Settings, proxy: FaultProxy, store: Store, address: str, log: Path
    ) -> None:
        self.settings, self.proxy, self.store, self.log = settings, proxy, store, log
        self.environment = {**os.environ, "RAY_ADDRESS": address}
        self.rng = random.Random(settings.seed)
        self.record = Record(settings.samples)
        self.expected: Digests = {}
        self.until: list[tuple[float, str, int]] = []
        self.prefix = ""
        self.committed = 0

    def command(self, output: str, *options: str) -> list[str]:
        line = [sys.executable, "-m", "unlearnable", "protect", f"s3://{BUCKET}/in"]
        return [*line, f"s3://{BUCKET}/{output}", "--method", "random", *options]

    def undisturbed(self) -> None:
        """Run once in one process and without any fault: what every lap has to give."""
        line = self.command("undisturbed", "--executor", "local")
        subprocess.run(line, check=True, env=self.environment)
        self.expected = self.store.digests("undisturbed/")
        assert "_SUCCESS" in self.expected
        assert sum(name.endswith(".tar") for name in self.expected) == self.settings.shards

    def run(self) -> None:
        """Disturb laps until the time is over; the last one is brought to its end in peace."""
        end = time.monotonic() + 60 * self.settings.minutes
        self.record.begin()
        while time.monotonic() < end:
            self._lap(self.record.laps, end)
            self.record.laps += 1

    def _lap(self, number: int, end: float) -> None:
        self.prefix, self.committed = f"lap-{number}/", 0
        kinds = GENTLE if number % 2 else GENTLE + DEADLY
        driver = self._start()
        next_fault = time.monotonic() + self.settings.fault_seconds
        look = 0.0
        while True:
            time.sleep(0.5)
            now = time.monotonic()
            self._lift(now)
            if now >= look:
                look = now + 3.0
                self._look()
            code = driver.process.poll()
            if code is not None:
                self.record.exits[code] += 1
                assert code in driver.codes, (code, driver.codes, self.log.read_text()[-3000:])
                if code == 0:
                    break
                driver = self._start()
            elif next_fault <= now < end:
                next_fault = now + self.settings.fault_seconds
                self._disturb(driver, kinds)
        self._lift(float("inf"))
        self._check_lap()

    def _start(self) -> Driver:
        line = self.command(self.prefix, "--executor", "ray", "--workers", "2")
        with self.log.open("ab") as log:
            process = subprocess.Popen(line, env=self.environment, stdout=log, stderr=log)
        return Driver(process, self.committed)

    def _disturb(self, driver: Driver, kinds: tuple[str, ...]) -> None:
        """Do the next harm that is possible now.

        Nothing is killed before it has committed something: on a slow machine it never would.
        """
        actors = [p.pid for p in below(os.getpid()) if p.name.startswith("ray::ShardActor")]
        young = self.committed == driver.committed
        possible = [
            k for k in kinds if not (k in DEADLY and young) and ("actor" not in k or actors)
        ]
        kind = self.rng.choice(possible)
        self.record.fault(kind)
        now = time.monotonic()
        if kind in SIGNALS:
            number, code = SIGNALS[kind]
            driver.codes |= {code, 3}
            driver.process.send_signal(number)
            # One that stands still would not notice.
            driver.process.send_signal(signal.SIGCONT)
        elif kind in {"kill-actor", "kill-actors"}:
            # A shard may use up its attempts.
            driver.codes.add(3)
            for pid in actors if kind == "kill-actors" else [self.rng.choice(actors)]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        elif kind in {"pause-actor", "pause-driver"}:
            pid = self.rng.choice(actors) if kind == "pause-actor" else driver.process.pid
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
            self.until.append((now + BURST_SECONDS, kind, pid))
        else:
            driver.codes.add(3)
            self._harm_storage(kind, now)
        driver.committed = self.committed

    def _harm_storage(self, kind: str, now: float) -> None:
        harm = self.rng.choice(STORAGE) if kind == "storage" else "refuse"
        self.record.harms[harm if kind == "storage" else kind] += 1
        share = SHARE if kind == "storage" else 1.0
        rng = random.Random(self.rng.random())

        def rule(_: Request) -> str:
            return harm if rng.random() < share else ""

        self.proxy.rule = rule
        self.until.append((now + BURST_SECONDS, kind, 0))

    def _lift(self, now: float) -> None:
        """End the harms whose time is over."""
        for harm in [harm for harm in self.until if harm[0] <= now]:
            self.until.remove(harm)
            if harm[2]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(harm[2], signal.SIGCONT)
            else:
                self.proxy.rule = no_fault

    def _look(self) -> None:
        """Take figures, and read the output as someone does who trusts the ledger."""
        names = self.store.names(self.prefix)
        records = sorted(n for n in names if n.startswith("_ledger/") and ".failed." not in n)
        self.committed = len(records)
        requests, self.proxy.requests = len(self.proxy.requests), []
        self.record.look(below(os.getpid()), self.committed, requests)
        if "_SUCCESS" in names:
            assert len(records) == self.settings.shards, "a false _SUCCESS"
        if records:
            self._check_shard(records[-1])
            self._check_shard(self.rng.choice(records))

    def _check_shard(self, record_name: str) -> None:
        record: Mapping[str, Any] = json.loads(self.store.read(self.prefix, record_name))
        for name, kind in (("{}.tar", "shard"), ("manifest/{}.parquet", "manifest")):
            path = name.format(record["shard"])
            digest = hashlib.sha256(self.store.read(self.prefix, path)).hexdigest()
            assert digest == record[f"{kind}_sha256"] == self.expected[path], path
        self.record.trusted += 1

    def _check_lap(self) -> None:
        """Hold every file of the lap against the undisturbed run's, then make room."""
        self._look()
        found = self.store.digests(self.prefix)
        assert found == self.expected, sorted(found.items() ^ self.expected.items())[:10]
        tries, retries = Counter[int](), 0
        for name in found:
            if name.startswith("_ledger/"):
                record = json.loads(self.store.read(self.prefix, name))
                tries[record["attempts"]] += 1
                retries += record["retries"]
        self.record.lap(tries, retries, self.settings.shards)
        self.store.clear(self.prefix)
