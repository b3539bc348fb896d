"""The folder of cells: a record written last makes a cell finished, a lock tells who makes it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ...data import storage
from ...data.local_files import lock
from ...errors import UsageError

_RECORD = "cell.json"


@dataclass(frozen=True)
class Record:
    """A finished cell.

    Attributes:
        key: its name.
        kind: ``fit``, ``copy`` or ``victim``.
        title: how tables call it.
        seconds: in the sitting that finished it; ``resumed`` tells that another began it.
        passes: passes a sample through the towers, forward+backward, a forward alone a third.
        device: the GPU's name, or ``cpu``.
        settings: all that decides its result.
    """

    key: str
    kind: str
    title: str
    seeds: list[int]
    seconds: float
    resumed: bool
    passes: dict[str, float]
    device: str
    versions: dict[str, str]
    settings: dict[str, Any] = field(default_factory=dict)


class Store:
    """Cells by key under one local folder, which any number of processes may work on at once.

    Raises:
        UsageError: the folder is no local one.
    """

    def __init__(self, url: str) -> None:
        path = storage.local_path(url)
        if path is None:
            raise UsageError(f"output is {url}; the cells of a table are kept in a local folder")
        self.root = Path(path)
        storage.make_folder(str(self.root / "cells"))

    def folder(self, key: str) -> Path:
        """Return the folder of a cell, finished or not."""
        return self.root / "cells" / key

    def record(self, key: str) -> Record | None:
        """Return the record of a cell, None when it is not finished."""
        path = self.folder(key) / _RECORD
        try:
            return Record(**json.loads(path.read_bytes()))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as error:
            raise UsageError(f"{path} is damaged ({error}); delete its folder") from error

    def finish(self, record: Record) -> None:
        """Write the record: from here on the cell is finished."""
        path = self.folder(record.key) / _RECORD
        storage.write_bytes(str(path), json.dumps(asdict(record), indent=1).encode())

    @contextmanager
    def claim(self, key: str) -> Iterator[bool]:
        """Yield whether the cell is this process's to make; the kernel frees it when that dies."""
        folder = self.folder(key)
        storage.make_folder(str(folder))
        with lock(folder / ".lock") as mine:
            yield mine
