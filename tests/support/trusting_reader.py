"""Someone who reads an output while it is written, and trusts its ledger and nothing else."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class TrustingReader:
    """Looks again and again, in a thread.

    Args:
        names: returns the names of the files that are there.
        read: returns the bytes of one; FileNotFoundError when it is gone.
        shards: number of shards of the plan.
    """

    names: Callable[[], set[str]]
    read: Callable[[str], bytes]
    shards: int
    looks: int = 0
    trusted: int = 0
    wrong: list[str] = field(default_factory=list)

    def look(self) -> None:
        """Read every record, and what it stands for."""
        names = self.names()
        records = [n for n in names if n.startswith("_ledger/") and n.endswith(".json")]
        records = [n for n in records if ".failed." not in n and "/." not in n]
        self.looks += 1
        if "_SUCCESS" in names and len(records) != self.shards:
            self.wrong.append(f"_SUCCESS with {len(records)} records")
        for name in records:
            record = json.loads(self.read(name))
            for path, kind in (("{}.tar", "shard"), ("manifest/{}.parquet", "manifest")):
                data = self.read(path.format(record["shard"]))
                if hashlib.sha256(data).hexdigest() != record[f"{kind}_sha256"]:
                    self.wrong.append(path.format(record["shard"]))
            self.trusted += 1

    def _poll(self, stop: threading.Event) -> None:
        while not stop.wait(0.02):
            try:
                self.look()
            except Exception as error:  # noqa: BLE001 - told where the reader is waited for
                self.wrong.append(f"{type(error).__name__}: {error}")

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Look all the time that the block runs; what was wrong fails it."""
        stop = threading.Event()
        thread = threading.Thread(target=self._poll, args=(stop,))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
        assert self.wrong == []
