"""Folders for files in the making, on the local disk; those of dead processes are removed."""

import fcntl
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def _root() -> Path:
    root = Path(tempfile.gettempdir()) / f"unlearnable-{os.getuid()}"
    root.mkdir(mode=0o700, exist_ok=True)
    return root


def _try_lock(path: Path) -> int | None:
    """Return a descriptor that holds the lock of ``path``, or None when a living process has it."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # A cleaner may have removed the file between open and lock; then the lock guards nothing.
        if os.fstat(handle).st_nlink:
            return handle
    except BlockingIOError:
        pass
    os.close(handle)
    return None


def remove_dead() -> None:
    """Remove the scratch folders whose processes are gone, however they went."""
    for lock in _root().glob("*.lock"):
        handle = _try_lock(lock)
        if handle is not None:
            shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
            lock.unlink(missing_ok=True)
            os.close(handle)


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yield an empty folder that is this process's own and vanishes afterwards.

    The kernel drops the folder's lock when the process dies, which holds across containers that
    share a disk but not their process numbers.
    """
    remove_dead()
    handle = None
    while handle is None:
        folder = _root() / uuid.uuid4().hex
        lock = folder.with_suffix(".lock")
        handle = _try_lock(lock)
    try:
        folder.mkdir()
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.unlink(missing_ok=True)
        os.close(handle)
