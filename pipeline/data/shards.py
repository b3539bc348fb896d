"""WebDataset shards: streaming reader that trusts nothing, writer whose bytes depend on content only."""

from __future__ import annotations

import hashlib
import os
import re
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import BinaryIO

from ..errors import SampleError, ShardError
from . import storage

_BLOCK = 512
_CHUNK = 1 << 16
_MAX_HEADER = 1 << 20
_MAX_NAME = 1024
_KEYED = re.compile(r"((?:.*/)?[^./]+)\.([^/]*)", re.DOTALL)
_EXTENDED_HEADERS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


@dataclass(frozen=True)
class Member:
    """One file of a sample: its name in the archive, its extension in lower case, its bytes."""

    name: str
    ext: str
    data: bytes


@dataclass(frozen=True)
class Sample:
    """The members that share a WebDataset key.

    Args:
        key: member path up to the first dot of its base name.
        members: in archive order.
        row: position of the sample in its shard, from 0.
        problem: set when a size limit was exceeded; the members that exceed it are then left out.
    """

    key: str
    members: tuple[Member, ...]
    row: int
    problem: SampleError | None = None

    def check(self) -> None:
        """Raise the ``problem`` found while reading, if any."""
        if self.problem is not None:
            raise self.problem


@dataclass(frozen=True)
class Limits:
    """What one sample of an untrusted shard may hold (bytes, bytes, count)."""

    max_member_bytes: int = 256 << 20
    max_sample_bytes: int = 512 << 20
    max_members: int = 64


def split_name(name: str) -> tuple[str, str] | None:
    """Return (key, extension in lower case) by WebDataset's rule, or None for a name outside it."""
    match = _KEYED.fullmatch(name)
    if match is None or re.fullmatch(r"__[^/]*__(/.*)?", name, re.DOTALL):
        return None
    return match.group(1), match.group(2).lower()


@contextmanager
def open_shard(url: str, limits: Limits | None = None) -> Iterator[ShardReader]:
    """Open the shard at ``url``. Raises ShardError when it is missing or may not be read."""
    try:
        stream = storage.open_read(url)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ShardError(f"{url}: the shard is missing; restore it or take it out of the input") from error
    except (PermissionError, IsADirectoryError) as error:
        raise ShardError(f"{url}: the shard cannot be read ({error}); check its access rights") from error
    with stream:
        yield ShardReader(stream, limits or Limits(), url)


class ShardReader:
    """Iterate once over the samples of a tar stream, holding one sample at a time.

    After exhaustion ``sha256`` and ``size`` describe the whole input, and ``ignored`` counts the
    members that belong to no sample (WebDataset skips the same ones: directories, names without an
    extension, hidden files, ``__metadata__``).

    Raises (while iterating):
        ShardError: not a tar, truncated, repeated or interleaved keys, unsafe or non-regular members.
    """

    def __init__(self, stream: BinaryIO, limits: Limits, name: str = "shard") -> None:
        self._tap = _Tap(stream)
        self._limits = limits
        self._name = name
        self.ignored = 0

    @property
    def sha256(self) -> str:
        """Hex digest of the bytes read so far."""
        return self._tap.hash.hexdigest()

    @property
    def size(self) -> int:
        """Bytes read so far."""
        return self._tap.count

    def __iter__(self) -> Iterator[Sample]:
        seen: set[str] = set()
        current: _Pending | None = None
        for key, ext, info, tar in self._entries():
            if current is None or key != current.key:
                if key in seen:
                    raise self._error(
                        f"the key {key!r} comes back after other keys (repeated or interleaved); "
                        "write all members of a sample next to each other"
                    )
                if current is not None:
                    yield current.sample()
                current = _Pending(key, len(seen))
                seen.add(key)
            if ext in current.exts:
                raise self._error(f"the key {key!r} has two members .{ext}; keys must not repeat")
            current.exts.add(ext)
            self._take(current, ext, info, tar)
        if current is not None:
            yield current.sample()

    def _entries(self) -> Iterator[tuple[str, str, tarfile.TarInfo, tarfile.TarFile]]:
        try:
            tar = tarfile.open(fileobj=self._tap, mode="r|", bufsize=_CHUNK, tarinfo=_CappedInfo, errorlevel=2)
        except (tarfile.TarError, ValueError, RecursionError) as error:
            raise self._error(f"not a tar archive ({error}); shards are plain, uncompressed .tar files") from error
        with tar:
            while (info := self._next(tar)) is not None:
                # The archive object would otherwise remember every header it has seen.
                tar.members.clear()
                self._check_member(info)
                names = split_name(info.name) if info.isfile() else None
                if names is None:
                    self.ignored += 1
                else:
                    yield *names, info, tar
            self._check_end(tar.offset)

    def _next(self, tar: tarfile.TarFile) -> tarfile.TarInfo | None:
        try:
            return tar.next()
        except (tarfile.TarError, ValueError, RecursionError) as error:
            raise self._error(f"truncated or damaged near byte {tar.offset} ({error}); copy the shard again") from error

    def _check_member(self, info: tarfile.TarInfo) -> None:
        name = info.name
        if info.size < 0:
            raise self._error(f"the member {name!r} declares a negative size; repack the shard")
        if not (info.isdir() or info.type in (tarfile.REGTYPE, tarfile.AREGTYPE)) or info.issparse():
            raise self._error(f"the member {name!r} is a link, a device or sparse; only regular files are allowed")
        unsafe = name.startswith("/") or ".." in name.split("/") or "\\" in name or len(name) > _MAX_NAME
        if unsafe or any(ord(character) < 32 or 0xD800 <= ord(character) < 0xE000 for character in name):
            raise self._error(f"the member name {name!r} is unsafe; names must be relative UTF-8 paths without '..'")

    def _take(self, current: _Pending, ext: str, info: tarfile.TarInfo, tar: tarfile.TarFile) -> None:
        limits = self._limits
        too_large = info.size > limits.max_member_bytes or current.bytes + info.size > limits.max_sample_bytes
        if too_large or len(current.exts) > limits.max_members:
            current.problem = SampleError(
                "sample_too_large",
                f"{current.key}: {info.name} exceeds the limits a sample ({limits.max_member_bytes} bytes a member, "
                f"{limits.max_sample_bytes} in all, {limits.max_members} members)",
            )
            return
        file = tar.extractfile(info)
        assert file is not None, "regular members have content"
        try:
            data = file.read()
        except tarfile.TarError as error:
            raise self._error(f"truncated inside {info.name!r}; copy the shard again") from error
        current.bytes += len(data)
        current.members.append(Member(info.name, ext, data))

    def _check_end(self, offset: int) -> None:
        rest = self._tap.last[offset - self._tap.count :] if offset < self._tap.count else b""
        zeros = not any(rest)
        while chunk := self._tap.read(_CHUNK):
            zeros = zeros and not any(chunk)
        if self._tap.count - offset < 2 * _BLOCK:
            raise self._error("truncated: the archive has no end marker; copy the shard again")
        if not zeros:
            raise self._error(f"damaged or followed by other data at byte {offset}; copy or repack the shard")

    def _error(self, message: str) -> ShardError:
        return ShardError(f"{self._name}: {message}")


class ShardWriter:
    """Write samples to a local tar file whose bytes depend on names and content only.

    Used as a context manager it removes the file when the block fails.

    Raises:
        UsageError: no space or no permission.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.fspath(path)
        self._hash = hashlib.sha256()
        self._size = 0
        with storage.explained(self._path):
            self._file = open(self._path, "wb")  # noqa: SIM115 - closed by close() or abort()

    def write(self, sample: Sample) -> None:
        """Append the members of ``sample`` in their order."""
        for member in sample.members:
            info = tarfile.TarInfo(member.name)
            info.size, info.mtime, info.mode = len(member.data), 0, 0o644
            # PAX_FORMAT writes a plain USTAR header wherever one suffices.
            self._put(info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict"))
            self._put(member.data)
            self._put(bytes(-len(member.data) % _BLOCK))

    def close(self) -> tuple[str, int]:
        """End the archive; return its (sha256, size in bytes)."""
        self._put(bytes(2 * _BLOCK))
        self._put(bytes(-self._size % tarfile.RECORDSIZE))
        with storage.explained(self._path):
            self._file.close()
        return self._hash.hexdigest(), self._size

    def abort(self) -> None:
        """Close and delete the unfinished file."""
        try:
            self._file.close()
        except OSError:
            pass  # what could not be flushed is deleted anyway
        if os.path.isfile(self._path):
            os.unlink(self._path)

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is not None:
            self.abort()
        elif not self._file.closed:
            self.close()

    def _put(self, data: bytes) -> None:
        self._hash.update(data)
        self._size += len(data)
        with storage.explained(self._path):
            self._file.write(data)


def write_shard(path: str | os.PathLike[str], samples: Iterable[Sample]) -> tuple[str, int]:
    """Write all ``samples`` to one shard; return its (sha256, size in bytes)."""
    with ShardWriter(path) as writer:
        for sample in samples:
            writer.write(sample)
        return writer.close()


def with_members(sample: Sample, members: Iterable[Member]) -> Sample:
    """Return ``sample`` with other members."""
    return replace(sample, members=tuple(members))


@dataclass
class _Pending:
    key: str
    row: int
    members: list[Member] = field(default_factory=list)
    exts: set[str] = field(default_factory=set)
    bytes: int = 0
    problem: SampleError | None = None

    def sample(self) -> Sample:
        return Sample(self.key, tuple(self.members), self.row, self.problem)


class _CappedInfo(tarfile.TarInfo):
    """Header that refuses the extended headers with which an archive could exhaust memory."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _CappedInfo:
        info = super().frombuf(buf, encoding, errors)
        # A negative size sends tarfile backwards, into an endless loop.
        if info.size < 0 or (info.type in _EXTENDED_HEADERS and info.size > _MAX_HEADER):
            raise tarfile.ReadError(f"a header that declares {info.size} bytes")
        return info


class _Tap:
    """Stream that hashes and counts what is read and keeps the last chunk.

    Chunks are whole but for the last one, so that the block in which an archive ends lies in ``last``.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.last = b""
        self.hash = hashlib.sha256()
        self.count = 0

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        while 0 < len(data) < size and (more := self._stream.read(size - len(data))):
            data += more
        if data:
            self.hash.update(data)
            self.count += len(data)
            self.last = data
        return data
