"""WebDataset shards: a streaming reader, and a writer whose bytes depend on content only."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from ..errors import SampleError, ShardError
from . import storage
from .members import Member, is_read, pass_on
from .tar_stream import Entry, TarStream

__all__ = [
    "Limits", "Member", "Sample", "ShardReader", "ShardWriter", "open_shard", "split_name",
    "write_shard",
]  # fmt: skip

_BLOCK = 512
_KEYED = re.compile(r"((?:.*/)?[^./]+)\.([^/]*)", re.DOTALL)
_METADATA = re.compile(r"__[^/]*__(/.*)?", re.DOTALL)


@dataclass(frozen=True)
class Sample:
    """The members that share a WebDataset key.

    Args:
        key: member path up to the first dot of its base name.
        members: in archive order.
        row: position of the sample in its shard, from 0.
        problem: set when a size limit was exceeded; what exceeds it is left out of ``members``.
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
    """What one sample of an untrusted shard may hold in memory (bytes, bytes), and how many files.

    Files that are neither image nor caption are passed on, whatever their size: those above
    ``pass_on_bytes`` are never held in memory and do not count.
    """

    max_member_bytes: int = 256 << 20
    max_sample_bytes: int = 512 << 20
    max_members: int = 64
    pass_on_bytes: int = 1 << 20


def split_name(name: str) -> tuple[str, str] | None:
    """Return (key, extension in lower case) by WebDataset's rule, or None outside that rule."""
    match = _KEYED.fullmatch(name)
    if match is None or _METADATA.fullmatch(name):
        return None
    return match.group(1), match.group(2).lower()


@contextmanager
def open_shard(
    url: str, limits: Limits | None = None, folder: Path | None = None
) -> Iterator[ShardReader]:
    """Open the shard at ``url``.

    Args:
        url: where it is.
        limits: what a sample may hold.
        folder: local folder for large files that are passed on, for who writes the samples again.

    Raises:
        ShardError: it is missing or may not be read.
    """
    try:
        stream = storage.open_read(url)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ShardError(
            f"{url}: the shard is missing; restore it or take it out of the input"
        ) from error
    except IsADirectoryError as error:
        raise ShardError(
            f"{url}: is a folder, not a .tar file; pack its files into a tar, or take it away"
        ) from error
    except PermissionError as error:
        raise ShardError(
            f"{url}: the shard cannot be read ({error}); check its access rights"
        ) from error
    with stream:
        yield ShardReader(stream, limits or Limits(), url, folder)


class ShardReader:
    """Iterate once over the samples of a tar stream, holding one sample at a time.

    After exhaustion ``sha256`` and ``size`` describe the whole input, and ``ignored`` counts the
    files that belong to no sample; they are those that WebDataset passes over too: names without
    an extension, hidden files, ``__metadata__``.

    Raises (while iterating):
        ShardError: repeated or interleaved keys, and what :class:`TarStream` raises.
    """

    def __init__(
        self,
        stream: BinaryIO,
        limits: Limits,
        name: str = "shard",
        folder: Path | None = None,
    ) -> None:
        self._tar = TarStream(stream, name)
        self._limits = limits
        self._folder = folder
        self.ignored = 0

    @property
    def sha256(self) -> str:
        """Hex digest of the bytes read so far."""
        return self._tar.sha256

    @property
    def size(self) -> int:
        """Bytes read so far."""
        return self._tar.size

    def __iter__(self) -> Iterator[Sample]:
        seen: set[str] = set()
        current: _Pending | None = None
        for entry in self._tar:
            names = split_name(entry.name)
            if names is None:
                self.ignored += 1
                continue
            key, ext = names
            if current is None or key != current.key:
                if key in seen:
                    raise self._tar.error(
                        f"the key {key!r} comes back after other keys (repeated or interleaved); "
                        "write all members of a sample next to each other"
                    )
                if current is not None:
                    yield current.sample()
                current = _Pending(key, len(seen))
                seen.add(key)
            if ext in current.exts:
                raise self._tar.error(
                    f"the key {key!r} is repeated: it has two members .{ext}; make keys unique"
                )
            self._take(current, ext, entry)
        if current is not None:
            yield current.sample()

    def _take(self, current: _Pending, ext: str, entry: Entry) -> None:
        limits = self._limits
        passed = not is_read(ext) and entry.size > limits.pass_on_bytes
        fits = entry.size <= limits.max_member_bytes
        fits &= current.bytes + entry.size <= limits.max_sample_bytes
        if (fits or passed) and len(current.exts) < limits.max_members:
            current.exts.add(ext)
            if passed:
                content = pass_on(entry.chunks(), self._folder)
                current.members.append(Member(entry.name, ext, passed=content))
                return
            current.bytes += entry.size
            current.members.append(Member(entry.name, ext, entry.read()))
            return
        current.problem = SampleError(
            "sample_too_large",
            f"{current.key}: {entry.name} exceeds the limits of a sample "
            f"({limits.max_member_bytes} bytes an image or caption file, {limits.max_sample_bytes} "
            f"bytes in memory and {limits.max_members} files in all)",
        )


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
            info.size, info.mtime, info.mode = member.size, 0, 0o644
            # PAX_FORMAT writes a plain USTAR header wherever one suffices.
            self._put(info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict"))
            for chunk in member.chunks():
                self._put(chunk)
            self._put(bytes(-member.size % _BLOCK))

    def close(self) -> tuple[str, int]:
        """End the archive; return its (sha256, size in bytes)."""
        self._put(bytes(2 * _BLOCK))
        self._put(bytes(-self._size % tarfile.RECORDSIZE))
        with storage.explained(self._path):
            self._file.close()
        return self._hash.hexdigest(), self._size

    def abort(self) -> None:
        """Close and delete the unfinished file."""
        # What could not be flushed is deleted anyway.
        with contextlib.suppress(OSError):
            self._file.close()
        if os.path.isfile(self._path):
            os.unlink(self._path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self.abort()
        elif not self._file.closed:
            self.close()

    def _put(self, data: bytes) -> None:
        self._hash.update(data)
        self._size += len(data)
        with storage.explained(self._path):
            storage.write_sparse(self._file, data)


def write_shard(path: str | os.PathLike[str], samples: Iterable[Sample]) -> tuple[str, int]:
    """Write all ``samples`` to one shard; return its (sha256, size in bytes)."""
    with ShardWriter(path) as writer:
        for sample in samples:
            writer.write(sample)
        return writer.close()


@dataclass
class _Pending:
    """The sample whose members are being read."""

    key: str
    row: int
    members: list[Member] = field(default_factory=list)
    exts: set[str] = field(default_factory=set)
    bytes: int = 0
    problem: SampleError | None = None

    def sample(self) -> Sample:
        return Sample(self.key, tuple(self.members), self.row, self.problem)
