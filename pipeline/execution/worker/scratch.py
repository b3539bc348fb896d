"""Folders for files in the making, on the local disk; those of dead processes are removed."""

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...data.local_files import lock


def _root() -> Path:
    root = Path(tempfile.gettempdir()) / f"unlearnable-{os.getuid()}"
    root.mkdir(mode=0o700, exist_ok=True)
    return root


def remove_dead() -> None:
    """Remove the scratch folders whose processes are gone, however they went."""
    for path in _root().glob("*.lock"):
        with lock(path) as dead:
            if dead:
                shutil.rmtree(path.with_suffix(""), ignore_errors=True)
                path.unlink(missing_ok=True)


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yield an empty folder that is this process's own and vanishes afterwards."""
    remove_dead()
    while True:
        folder = _root() / uuid.uuid4().hex
        path = folder.with_suffix(".lock")
        with lock(path) as held:
            # A cleaner may have taken the file before it was locked.
            if not held:
                continue
            try:
                folder.mkdir()
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
                path.unlink(missing_ok=True)
            return
