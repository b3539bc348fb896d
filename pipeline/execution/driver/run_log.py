"""The log of a run for machines: one JSON object a line."""

import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, Self

from ...data import storage
from ...data.ledger import LedgerRecord

if TYPE_CHECKING:
    from .schedule import Outcome, ShardTask

log = logging.getLogger(__name__)

_PACKAGE = __name__.split(".", maxsplit=1)[0]

LOG_DIR = "_log"
_PART_SECONDS = 60.0


class RunLog(logging.Handler):
    """Writes events, and the messages of this package, to ``_log/<run>.jsonl`` of a record.

    Object stores cannot append: there it writes parts ``_log/<run>-00000.jsonl``, one a minute at
    most. A log that cannot be written is no reason to stop a run. A context manager.

    Every line has ``time`` (seconds since 1970), ``run`` and ``event``:

    - ``run_begun``: host, pid, version, config_hash, shards, waiting, executor, workers, joined
    - ``shard_begun``: shard, attempt; it was given to a worker
    - ``shard_returned``: shard, attempt, reason; not begun, or its node was lost: the attempt does
      not count
    - ``shard_ended``: shard, attempt, outcome (``committed``, ``failed``, or ``again``: another
      attempt follows), error, samples, retries, phases (seconds of each)
    - ``message``: level, text
    - ``run_ended``: error (null when there is none), committed, failed

    Args:
        record: URL of the record of the output.
        run: id of the run.
        path: a local file to append to instead.
    """

    def __init__(self, record: str, run: str, path: str | None = None) -> None:
        super().__init__(logging.INFO)
        self._run = run
        self._file: IO[str] | None = None
        self._base = storage.join(record, LOG_DIR, run)
        local = storage.local_path(path or f"{self._base}.jsonl")
        self._lines: list[str] = []
        self._part = 0
        self._written = time.monotonic()
        self._broken = False
        if local is not None:
            with self._harmless():
                local.parent.mkdir(parents=True, exist_ok=True)
                self._file = local.open("a", encoding="utf-8", buffering=1)

    def event(self, name: str, **facts: Any) -> None:
        """Write one line."""
        line = json.dumps({"time": time.time(), "run": self._run, "event": name, **facts})
        if self._broken:
            return
        with self._harmless():
            if self._file is not None:
                self._file.write(line + "\n")
                return
            self._lines.append(line)
            if time.monotonic() - self._written > _PART_SECONDS:
                self._write_part()

    def ended(
        self, task: "ShardTask", record: LedgerRecord | None, outcome: "Outcome[LedgerRecord]"
    ) -> None:
        """Write what became of an attempt; without a record another one follows."""
        facts: dict[str, Any] = {"outcome": "again", "error": outcome.error}
        if record is not None:
            times = {k: t for k, t in record.timings.items() if k not in {"started", "finished"}}
            facts = {"outcome": record.status, "error": record.error, "samples": record.samples}
            facts |= {"retries": record.retries, "phases": times}
        told = outcome.traceback or (record.traceback if record is not None else None)
        if told:
            facts |= {"traceback": told, "node": outcome.node or (record.node if record else "")}
        self.event("shard_ended", shard=task.shard.name, attempt=task.attempt, **facts)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a message of this package."""
        facts = {"level": record.levelname, "text": record.getMessage()}
        if record.exc_info:
            facts["traceback"] = logging.Formatter().formatException(record.exc_info)
        self.event("message", **facts)

    def __enter__(self) -> Self:
        logging.getLogger(_PACKAGE).addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger(_PACKAGE).removeHandler(self)
        with self._harmless():
            if self._lines:
                self._write_part()
            if self._file is not None:
                self._file.close()

    @contextmanager
    def _harmless(self) -> Iterator[None]:
        """Turn errors of writing into the end of the log."""
        try:
            yield
        except OSError as error:
            self._broken = True
            log.warning("the log of this run ends here: %s", error)

    def _write_part(self) -> None:
        # Writing may itself have something to say, which belongs to the next part.
        lines, self._lines = self._lines, []
        part, self._part = self._part, self._part + 1
        self._written = time.monotonic()
        text = "".join(line + "\n" for line in lines)
        storage.write_bytes(f"{self._base}-{part:05d}.jsonl", text.encode())
