"""Files by URL: local paths and anything fsspec knows, with writes that are whole or absent.

The only module that imports fsspec. Local URLs bypass it, because an atomic local write needs a
temporary file and a rename that fsspec does not offer.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import fsspec

from ..errors import UsageError

_TEMPORARY = re.compile(r"^\..+\.[0-9a-f]{12}\.tmp$")
_CHANGE_MARKS = (
    "ETag",
    "etag",
    "md5Hash",
    "mtime",
    "LastModified",
    "last_modified",
    "updated",
    "created",
)
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


def local_path(url: str) -> Path | None:
    """Return the absolute local path that ``url`` names, or None for a remote URL."""
    if url.startswith(("file://", "local://")):
        return Path(url.split("://", 1)[1]).absolute()
    if "://" in url or "::" in url:
        return None
    return Path(url).expanduser().absolute()


def join(base: str, *parts: str) -> str:
    """Append ``parts`` to the folder URL ``base``."""
    head = base if base.endswith("/") else base + "/"
    return head + "/".join(part.strip("/") for part in parts)


def base_name(url: str) -> str:
    """Return the last path component of ``url``, without the query of an HTTP URL."""
    if is_http(url):
        url = re.split(r"[?#]", url, maxsplit=1)[0]
    return url.rstrip("/").rsplit("/", 1)[-1]


def is_http(url: str) -> bool:
    """Whether ``url`` is read from a web server, where nothing can be listed or written."""
    return url.startswith(("http://", "https://"))


def exists(url: str) -> bool:
    """Whether a file or folder is there now."""
    path = local_path(url)
    if path is not None:
        return path.exists()
    fs, remote = _remote(url)
    return bool(fs.exists(remote))


def size(url: str) -> int | None:
    """Bytes of the file at ``url``; None when the server does not say. Raises FileNotFoundError."""
    value = identity(url)["size"]
    return None if value is None else int(value)


def identity(url: str) -> dict[str, Any]:
    """Return ``size`` and ``etag`` of a file: what tells one version of it from another.

    ``etag`` is the store's own tag or its modification time, as text; None when it gives neither.
    """
    path = local_path(url)
    if path is not None:
        status = path.stat()
        return {"size": status.st_size, "etag": f"mtime:{status.st_mtime_ns}"}
    fs, remote = _remote(url)
    info = fs.info(remote)
    mark = next((f"{name}:{info[name]}" for name in _CHANGE_MARKS if info.get(name)), None)
    return {"size": info.get("size"), "etag": mark}


def open_read(url: str) -> BinaryIO:
    """Open ``url`` for one sequential read from its start. Raises OSError."""
    path = local_path(url)
    if path is not None:
        return path.open("rb")
    fs, remote = _remote(url)
    # An HTTP server need not support ranges: block size 0 asks for the plain stream.
    options: dict[str, Any] = {"block_size": 0} if is_http(url) else {"cache_type": "readahead"}
    return cast("BinaryIO", fs.open(remote, "rb", **options))


def read_bytes(url: str) -> bytes:
    """Read a whole file. Raises OSError (FileNotFoundError when it is missing)."""
    path = local_path(url)
    if path is not None:
        return path.read_bytes()
    fs, remote = _remote(url)
    return cast("bytes", fs.cat_file(remote))


def write_bytes(url: str, data: bytes) -> None:
    """Write ``data`` to ``url``: afterwards the whole file is there, or what was there before.

    Raises:
        UsageError: no space, no permission.
        OSError: the store took the bytes but reports another size.
    """
    path = local_path(url)
    if path is not None:
        _replace_local(path, lambda file: file.write(data))
    else:
        _put_remote(url, len(data), lambda fs, remote: fs.pipe_file(remote, data))


def put_file(source: str | os.PathLike[str], url: str) -> None:
    """Copy the local file ``source`` to ``url``, with the guarantees of :func:`write_bytes`."""
    path = local_path(url)
    if path is not None:
        with open(source, "rb") as origin:
            _replace_local(path, lambda file: shutil.copyfileobj(origin, file, 1 << 20))
    else:
        _put_remote(
            url, os.path.getsize(source), lambda fs, remote: fs.put_file(os.fspath(source), remote)
        )


def make_folder(url: str) -> None:
    """Create a local folder with its parents; object stores have no folders to create."""
    path = local_path(url)
    if path is not None:
        with explained(path):
            path.mkdir(parents=True, exist_ok=True)


def remove(url: str) -> None:
    """Delete one file; a missing one is no error."""
    path = local_path(url)
    if path is not None:
        path.unlink(missing_ok=True)
        return
    fs, remote = _remote(url)
    try:
        fs.rm_file(remote)
    except FileNotFoundError:
        return


def list_names(url_dir: str, *, folders: bool = False) -> list[str]:
    """Return the sorted names of the files, or the folders, in a folder; empty when there is none.

    Names with a leading dot are left out: they are temporary files of writes that did not end.
    A link to a file that is gone is kept, so that its reader can tell.

    Raises:
        UsageError: it is a file.
    """
    path = local_path(url_dir)
    if path is not None:
        if not path.exists():
            return []
        if not path.is_dir():
            raise UsageError(f"{url_dir} is a file, not a folder; choose another place")
        with os.scandir(path) as entries:
            names = [
                entry.name
                for entry in entries
                if (entry.is_dir() if folders else entry.is_file() or _is_broken_link(entry))
            ]
    else:
        fs, remote = _remote(url_dir)
        kind = "directory" if folders else "file"
        try:
            entries_info = fs.ls(remote, detail=True)
        except FileNotFoundError:
            return []
        names = [base_name(info["name"]) for info in entries_info if info["type"] == kind]
    return sorted(name for name in names if name and not name.startswith("."))


def _is_broken_link(entry: os.DirEntry[str]) -> bool:
    return entry.is_symlink() and not os.path.exists(entry.path)


def is_folder(url: str) -> bool:
    """Whether ``url`` is a folder, or a prefix with something below it."""
    path = local_path(url)
    if path is not None:
        return path.is_dir()
    fs, remote = _remote(url)
    return bool(fs.isdir(remote))


def glob(pattern: str) -> list[str]:
    """Return the URLs that match a glob pattern; local ones as absolute paths."""
    path = local_path(pattern)
    if path is not None:
        return list(fsspec.filesystem("file").glob(str(path)))
    fs, remote = _remote(pattern)
    return [fs.unstrip_protocol(name) for name in fs.glob(remote)]


def sweep(url_dir: str) -> int:
    """Delete the temporary files that killed writers left in a local folder; return how many."""
    path = local_path(url_dir)
    if path is None or not path.is_dir():
        return 0
    stale = [entry for entry in path.iterdir() if _TEMPORARY.match(entry.name)]
    for entry in stale:
        entry.unlink(missing_ok=True)
    return len(stale)


def is_inside(url: str, parent: str) -> bool:
    """Whether ``url`` is ``parent`` itself or lies below it (symbolic links followed)."""
    inner, outer = _canonical(url), _canonical(parent)
    return inner == outer or inner.startswith(outer.rstrip("/") + "/")


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


def _replace_local(path: Path, fill: Callable[[BinaryIO], object]) -> None:
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
        try:
            with temporary.open("xb") as file:
                fill(file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def _put_remote(url: str, expected: int, put: Callable[[Any, str], object]) -> None:
    fs, remote = _remote(url)
    before = _identity_or_none(url)
    try:
        put(fs, remote)
        written = size(url)
        if written is not None and written != expected:
            raise OSError(f"{url} holds {written} bytes after a write of {expected}")
    except BaseException:
        # Some stores keep what arrived before the failure under the final name.
        if _identity_or_none(url) != before:
            remove(url)
        raise


def _identity_or_none(url: str) -> dict[str, Any] | None:
    try:
        return identity(url)
    except FileNotFoundError:
        return None


def _remote(url: str) -> tuple[Any, str]:
    try:
        fs, remote = fsspec.core.url_to_fs(url)
    except ImportError as error:
        scheme = url.split("://", 1)[0]
        extra = (
            "unlearnable[s3]" if scheme in ("s3", "s3a") else f"the fsspec package for {scheme}://"
        )
        raise UsageError(f"cannot open {url}: {error}. Install {extra}") from error
    except ValueError as error:
        raise UsageError(f"cannot open {url}: {error}") from error
    # Other processes write to the same prefixes; a cached listing would hide their work.
    fs.invalidate_cache()
    return fs, remote


def _canonical(url: str) -> str:
    path = local_path(url)
    if path is not None:
        return str(path.resolve())
    fs, remote = _remote(url)
    return str(fs.unstrip_protocol(remote)).rstrip("/")
