"""Files by URL: local paths and anything fsspec knows, with writes that are whole or absent.

The only module that imports fsspec. Local URLs bypass it, because an atomic local write needs a
temporary file and a rename that fsspec does not offer.
"""

import os
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any, BinaryIO, TypeVar, cast

import fsspec

from ..errors import UsageError
from .local_files import explained, names_in, replace_file, sweep_folder, write_sparse
from .transient import ResumingStream, retried
from .urls import base_name, is_http, join, local_path, refuse_secrets

__all__ = [
    "base_name", "exists", "explained", "glob", "holds", "identity", "is_folder", "is_http",
    "is_inside", "join", "list_identities", "list_names", "local_path", "make_folder", "open_read",
    "put_file", "read_bytes", "refuse_secrets", "remove", "size", "sweep", "write_bytes",
    "write_pieces", "write_sparse",
]  # fmt: skip

T = TypeVar("T")

_TAGS = ("ETag", "etag", "md5Hash", "blob_id")
_EXTRAS = {"s3": "unlearnable[s3]", "s3a": "unlearnable[s3]", "hf": "unlearnable[hub]"}
_CHANGE_MARKS = (*_TAGS, "mtime", "LastModified", "last_modified", "updated", "created")


def exists(url: str) -> bool:
    """Whether a file or folder is there now."""
    path = local_path(url)
    if path is not None:
        return path.exists()
    return _info_or_none(url) is not None


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
        status = os.stat(path)
        return {"size": status.st_size, "etag": f"mtime:{status.st_mtime_ns}"}
    return _identity_of(_ask("look up", url, lambda fs, remote: fs.info(remote)))


def list_identities(url_dir: str) -> dict[str, dict[str, Any]]:
    """Return the :func:`identity` of files in an object store's folder, of those with a tag."""
    return {
        base_name(info["name"]): _identity_of(info)
        for info in _listed(url_dir)
        if info["type"] == "file" and any(info.get(tag) for tag in _TAGS)
    }


def open_read(url: str) -> BinaryIO:
    """Open ``url`` for one sequential read from its start; a cut connection is made again.

    Raises:
        OSError: it cannot be read, or was replaced meanwhile.
    """
    path = local_path(url)
    if path is not None:
        return path.open("rb")
    return cast("BinaryIO", ResumingStream(url, partial(_open_at, url)))


def read_bytes(url: str) -> bytes:
    """Read a whole file. Raises OSError (FileNotFoundError when it is missing)."""
    path = local_path(url)
    if path is not None:
        return path.read_bytes()
    return cast("bytes", _ask("read", url, lambda fs, remote: fs.cat_file(remote)))


def holds(url: str, pieces: Iterable[bytes]) -> bool:
    """Tell whether the file at ``url`` is what ``pieces`` are together. Raises OSError."""
    with open_read(url) as file:
        equal = all(_read_exactly(file, len(piece)) == piece for piece in pieces)
        return equal and not file.read(1)


def _read_exactly(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    while 0 < len(data) < size and (more := file.read(size - len(data))):
        data += more
    return data


def write_bytes(url: str, data: bytes) -> None:
    """Write ``data`` to ``url``: afterwards the whole file is there, or what was there before.

    Raises:
        UsageError: no space, no permission.
        OSError: the store took the bytes but reports another size.
    """
    path = local_path(url)
    if path is not None:
        replace_file(path, lambda file: file.write(data))
    else:
        _put_remote(url, len(data), lambda fs, remote: fs.pipe_file(remote, data))


def write_pieces(url: str, pieces: Iterable[bytes]) -> None:
    """Write what does not fit into memory as :func:`write_bytes` does."""
    path = local_path(url)
    if path is not None:
        replace_file(path, lambda file: file.writelines(pieces))
        return
    with tempfile.NamedTemporaryFile(prefix="unlearnable-") as file:
        file.writelines(pieces)
        file.flush()
        put_file(file.name, url)


def put_file(source: str | os.PathLike[str], url: str) -> None:
    """Copy the local file ``source`` to ``url``, with the guarantees of :func:`write_bytes`."""
    path = local_path(url)
    if path is not None:
        with open(source, "rb") as origin:
            replace_file(path, lambda file: _copy(origin, file))
    else:
        _put_remote(
            url, os.path.getsize(source), lambda fs, remote: fs.put_file(os.fspath(source), remote)
        )


def _copy(origin: BinaryIO, file: BinaryIO) -> None:
    while chunk := origin.read(1 << 20):
        write_sparse(file, chunk)
    file.truncate()


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
    try:
        _ask("remove", url, lambda fs, remote: fs.rm_file(remote))
    except FileNotFoundError:
        return


def list_names(url_dir: str, *, folders: bool = False) -> list[str]:
    """Return the sorted names of the files, or the folders, in a folder; empty when there is none.

    Names with a leading dot are left out: they are temporary files of writes that did not end.
    A link to a file that is gone is kept, so that its reader can tell. Raises UsageError: a file.
    """
    path, names = local_path(url_dir), list[str]()
    if path is not None:
        if path.exists() and not path.is_dir():
            raise UsageError(f"{url_dir} is a file, not a folder; choose another place")
        names = names_in(path, folders=folders)
    else:
        kind = "directory" if folders else "file"
        with suppress(FileNotFoundError):
            names = [base_name(info["name"]) for info in _listed(url_dir) if info["type"] == kind]
    return sorted(name for name in names if name and not name.startswith("."))


def list_sizes(url_dir: str) -> dict[str, int | None]:
    """Return the bytes of the files in a folder by name; None where the store does not say."""
    path = local_path(url_dir)
    if path is not None:
        return {file.name: file.stat().st_size for file in path.iterdir() if file.is_file()}
    return {base_name(info["name"]): info.get("size") for info in _listed(url_dir)}


def _listed(url_dir: str) -> list[dict[str, Any]]:
    return list(_ask("list", url_dir, lambda fs, remote: fs.ls(remote, detail=True)))


def walk(url_dir: str) -> list[str]:
    """Return the paths of all files below a folder, from it on, hidden ones too, sorted."""
    path = local_path(url_dir)
    if path is not None:
        found = (os.path.join(top, name) for top, _, names in os.walk(path) for name in names)
        return sorted(os.path.relpath(file, path) for file in found)
    below = _remote(url_dir)[1].rstrip("/") + "/"
    files = _ask("list", url_dir, lambda fs, remote: fs.find(remote))
    return sorted(str(file).removeprefix(below) for file in files)


def is_folder(url: str) -> bool:
    """Whether ``url`` is a folder, or a prefix with something below it."""
    path = local_path(url)
    if path is not None:
        return path.is_dir()
    info = None if is_http(url) else _info_or_none(url)
    return info is not None and info["type"] == "directory"


def glob(pattern: str) -> list[str]:
    """Return the URLs that match a glob pattern; local ones as absolute paths."""
    path = local_path(pattern)
    if path is not None:
        return list(fsspec.filesystem("file").glob(str(path)))
    fs, _ = _remote(pattern)
    found = _ask("list", pattern, lambda fs, remote: fs.glob(remote))
    return [fs.unstrip_protocol(name) for name in found]


def sweep(url_dir: str) -> int:
    """Delete the temporary files that killed writers left in a local folder; return how many."""
    path = local_path(url_dir)
    return sweep_folder(path) if path is not None and path.is_dir() else 0


def is_inside(url: str, parent: str) -> bool:
    """Whether ``url`` is ``parent`` itself or lies below it (symbolic links followed)."""
    inner, outer = _canonical(url), _canonical(parent)
    return inner == outer or inner.startswith(outer.rstrip("/") + "/")


def _put_remote(url: str, expected: int, put: Callable[[Any, str], object]) -> None:
    before = _identity_or_none(url)

    def put_and_check(fs: Any, remote: str) -> None:
        put(fs, remote)
        fs.invalidate_cache()
        written = fs.info(remote).get("size")
        if written is not None and written != expected:
            raise OSError(f"{url} holds {written} bytes after a write of {expected}")

    try:
        _ask("write", url, put_and_check)
    except BaseException:
        # Some stores keep what arrived before the failure under the final name.
        after = _identity_or_none(url)
        if after is not None and after != before and after["size"] != expected:
            remove(url)
        raise


def _open_at(url: str, position: int) -> tuple[BinaryIO, Any]:
    fs, remote = _remote(url)
    version = identity(url) if position or not is_http(url) else None
    if not is_http(url):
        file = fs.open(remote, "rb", cache_type="readahead")
        file.seek(position)
        return cast("BinaryIO", file), version
    # A web server need not support ranges: block size 0 asks for the plain stream.
    file = fs.open(remote, "rb", block_size=0)
    while position and (passed := file.read(min(position, 1 << 20))):
        position -= len(passed)
    return cast("BinaryIO", file), version


def _identity_of(info: dict[str, Any]) -> dict[str, Any]:
    mark = next((f"{name}:{info[name]}" for name in _CHANGE_MARKS if info.get(name)), None)
    return {"size": info.get("size"), "etag": mark}


def _info_or_none(url: str) -> dict[str, Any] | None:
    """Return what the store says of ``url``; None where it says that there is nothing.

    ``exists`` and ``isdir`` of fsspec take every error for that, also that a store is away.
    """
    try:
        info: dict[str, Any] = _ask("look for", url, lambda fs, remote: fs.info(remote))
    except (FileNotFoundError, NotADirectoryError):
        return None
    return info


def _identity_or_none(url: str) -> dict[str, Any] | None:
    try:
        return identity(url)
    except FileNotFoundError:
        return None


def _ask(what: str, url: str, operation: Callable[[Any, str], T]) -> T:
    """Do ``operation`` on the file system and path of ``url``, again when its trouble may pass."""

    def once() -> T:
        fs, remote = _remote(url)
        return operation(fs, remote)

    return retried(f"{what} {url}", once)


def _remote(url: str) -> tuple[Any, str]:
    refuse_secrets(url)
    if url.startswith("hf://") and url.count("/") == 2:
        raise UsageError(f"{url} names no dataset of the Hub; write hf://datasets/OWNER/NAME")
    try:
        fs, remote = fsspec.core.url_to_fs(url, **_options(url))
    except ImportError as error:
        scheme = url.split("://", 1)[0]
        extra = _EXTRAS.get(scheme, f"the fsspec package for {scheme}://")
        raise UsageError(f"cannot open {url}: {error}. Install {extra}") from error
    except ValueError as error:
        raise UsageError(f"cannot open {url}: {error}") from error
    if "s3" in fs.protocol:
        fs.retries = 1
    # Other processes write to the same prefixes; a cached listing would hide their work.
    fs.invalidate_cache()
    return fs, remote


def _options(url: str) -> dict[str, Any]:
    if url.startswith(("s3://", "s3a://")):
        own = fsspec.config.conf.get("s3", {})
        # botocore's retries and those of s3fs would multiply with ours, and nobody would count.
        once = {**own.get("config_kwargs", {}), "retries": {"total_max_attempts": 1}}
        # s3fs holds two copies of each part of 50 MB that is under way; its ten make 1 GB a worker.
        return {"config_kwargs": once, "max_concurrency": own.get("max_concurrency", 2)}
    if not is_http(url):
        return {}
    import aiohttp

    # Its default ends every transfer after five minutes. Passwords come from a netrc file.
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60)
    return {"client_kwargs": {"timeout": timeout, "trust_env": True}}


def _canonical(url: str) -> str:
    path = local_path(url)
    if path is not None:
        return str(path.resolve())
    fs, remote = _remote(url)
    return str(fs.unstrip_protocol(remote)).rstrip("/")
