"""Local files that are whole or absent, and errors of writing that say what to do."""

import errno
import fcntl
import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ..errors import UsageError

_TEMPORARY = re.compile(r"^\..+\.[0-9a-f]{12}\.tmp$")
_HOLE = 1 << 16
_WRITE_REMEDY = {
    errno.ENOSPC: "no space left; free some, then run the same command again to resume",
    errno.EDQUOT: "the disk quota is used up; free some space, then run the same command again",
    errno.EFBIG: (
        "the file is larger than this file system or process may write; "
        "raise the limit (ulimit -f), then run the same command again to resume"
    ),
    errno.EACCES: "permission denied; choose a folder that you may write to",
    errno.EPERM: "operation not permitted; choose a folder that you may write to",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.ENOTDIR: "a part of this path is a file, not a folder",
    errno.EEXIST: "a part of this path is a file, not a folder",
}


@contextmanager
def explained(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn the errors of a local write that the user can remedy into UsageError."""
    try:
        yield
    except OSError as error:
        remedy = _WRITE_REMEDY.get(error.errno or 0)
        if remedy is None:
            raise
        raise UsageError(f"cannot write {os.fspath(path)}: {remedy}") from error


def temporary_path(path: Path) -> Path:
    """Return a new hidden name beside ``path`` for what becomes ``path``."""
    return path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")


def is_temporary(name: str) -> bool:
    """Whether a name is one of :func:`temporary_path`'s."""
    return _TEMPORARY.match(name) is not None


def replace_file(path: Path, fill: Callable[[BinaryIO], object]) -> None:
    """Write ``path`` by ``fill``: afterwards the whole file is there, or what was there before.

    Raises:
        UsageError: no space, no permission.
    """
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_path(path)
        try:
            with temporary.open("xb") as file:
                fill(file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def sweep_folder(folder: Path) -> int:
    """Delete what killed calls of :func:`replace_file` left; return how many files."""
    count = 0
    for entry in [entry for entry in folder.iterdir() if is_temporary(entry.name)]:
        # A folder of such a name may be the staging folder of a living command.
        if entry.is_file():
            with suppress(FileNotFoundError):
                entry.unlink()
                count += 1
    return count


@contextmanager
def lock(path: Path) -> Iterator[bool]:
    """Yield whether the lock of a file or folder is ours; the kernel frees it when we die.

    That holds across containers that share a disk but not their process numbers. A file that is
    not there is made.
    """
    # Only an open for writing takes a lock over NFS; a folder has none.
    flags = os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT
    handle = os.open(path, flags, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            # Who removed the path between open and lock left a lock that guards nothing.
            yield os.fstat(handle).st_nlink > 0
    finally:
        os.close(handle)


def write_sparse(file: BinaryIO, data: bytes) -> None:
    """Write ``data``, a large block of zeros as a hole: end with ``file.truncate()``."""
    if len(data) >= _HOLE and not data[0] and not data[-1] and not data.strip(b"\0"):
        file.seek(len(data), os.SEEK_CUR)
    else:
        file.write(data)


def names_in(folder: Path, *, folders: bool = False) -> list[str]:
    """Return the names of the files, or the folders, in a folder; empty when there is none.

    A link to a file that is gone counts as a file.
    """
    if not folder.exists():
        return []
    with os.scandir(folder) as entries:
        return [
            entry.name
            for entry in entries
            if (entry.is_dir() if folders else entry.is_file() or _is_broken_link(entry))
        ]


def _is_broken_link(entry: os.DirEntry[str]) -> bool:
    return entry.is_symlink() and not os.path.exists(entry.path)
