"""WebDataset shards: a streaming reader, and a writer whose bytes depend on content only.

Keys, grouping and archive writing are those of the webdataset library. Its tar reader is replaced
by :class:`TarStream`, a stage in the same pipeline: it finds truncation by the end marker, takes
digests, refuses hostile headers, holds no large member in memory, and reads through fsspec, never
through a ``pipe:`` command.
"""

import contextlib
import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from tarfile import TarInfo
from types import TracebackType
from typing import Any, BinaryIO, Self

from ..errors import SampleError, ShardError, UsageError
from . import storage
from .formats import HEAD
from .members import Member, is_read, pass_on
from .tar_stream import Entry, TarStream

__all__ = [
    "Limits", "Member", "Sample", "ShardReader", "ShardWriter", "open_shard", "split_name",
    "write_shard",
]  # fmt: skip

_MODE = 0o644
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
    """Return (key, extension in lower case) by webdataset's rule, or None outside that rule.

    A hidden file in a folder is outside: webdataset takes the folder for its key.
    """
    from webdataset.tariterators import base_plus_ext

    key, ext = base_plus_ext(name)
    if key is None or key.endswith("/") or _METADATA.fullmatch(name):
        return None
    return key, ext.lower()


@contextmanager
def open_shard(
    url: str, limits: Limits | None = None, folder: Path | None = None
) -> "Iterator[ShardReader]":
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

    After exhaustion ``sha256`` and ``size`` describe the whole input. Files that belong to no
    sample are passed over: names without an extension, hidden files, ``__metadata__``. All but the
    last are counted in ``left_out``; ``first_left_out`` is a name.

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
        self._name = name
        self._limits = limits
        self._folder = folder
        self.left_out = 0
        self.first_left_out = ""

    @property
    def sha256(self) -> str:
        """Hex digest of the bytes read so far."""
        return self._tar.sha256

    @property
    def size(self) -> int:
        """Bytes read so far."""
        return self._tar.size

    def __iter__(self) -> Iterator[Sample]:
        from webdataset.tariterators import group_by_keys

        problems: dict[str, SampleError] = {}
        # Grouping alone would let a key come back, and a member named __bad__ drop its sample.
        groups = enumerate(group_by_keys(self._files(problems)))
        while (found := self._next(groups)) is not None:
            row, group = found
            key = group["__key__"]
            members = tuple(value for value in group.values() if isinstance(value, Member))
            yield Sample(key, members, row, problems.pop(key, None))

    def _next(self, groups: Iterator[tuple[int, dict[str, Any]]]) -> Any:
        try:
            return next(groups, None)
        except ValueError as error:
            name = str(error.args[0]).partition(": duplicate file name")[0]
            raise self._tar.error(
                f"{name!r} is repeated (upper and lower case are equal); make keys unique"
            ) from error

    def _files(self, problems: dict[str, SampleError]) -> Iterator[dict[str, Any]]:
        """Yield the members as webdataset's tar stages do, with a `Member` as data."""
        seen: set[str] = set()
        current: _Held | None = None
        for entry in self._tar:
            names = split_name(entry.name)
            if names is None:
                if not _METADATA.fullmatch(entry.name):
                    self.left_out += 1
                    self.first_left_out = self.first_left_out or entry.name
                continue
            key, ext = names
            if current is None or key != current.key:
                if key in seen:
                    raise self._tar.error(
                        f"the key {key!r} comes back after other keys (repeated or interleaved); "
                        "write all members of a sample next to each other"
                    )
                current = _Held(key)
                seen.add(key)
            if ext.startswith("__"):
                raise self._tar.error(
                    f"{entry.name!r} has an extension that webdataset keeps for itself; rename it"
                )
            member = self._take(current, ext, entry)
            if member is None and key not in problems:
                problems[key] = self._too_large(entry)
            # A sample stays a sample when nothing of it could be held.
            if member is not None or not current.members:
                current.members += 1
                yield {"fname": entry.name, "data": member, "__url__": self._name}

    def _take(self, current: "_Held", ext: str, entry: Entry) -> Member | None:
        """Return the member as it is held or passed on; None when it exceeds a limit."""
        limits = self._limits
        if current.members >= limits.max_members:
            return None
        chunks = entry.chunks()
        head = next(chunks, b"")
        whole = chain((head,), chunks)
        if entry.size > limits.pass_on_bytes and not is_read(ext, head[:HEAD]):
            return Member(entry.name, ext, passed=pass_on(whole, self._folder))
        room = min(limits.max_member_bytes, limits.max_sample_bytes - current.bytes)
        if entry.size > room:
            return None
        current.bytes += entry.size
        return Member(entry.name, ext, b"".join(whole))

    def _too_large(self, entry: Entry) -> SampleError:
        limits = self._limits
        return SampleError(
            "sample_too_large",
            f"{entry.name} exceeds the limits of a sample "
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
        from webdataset import TarWriter

        self._path = os.fspath(path)
        self._file = _HashedFile(self._path)
        self._tar = TarWriter(
            self._file, user="", group="", mode=_MODE, mtime=0, encoder=False, compress=False
        )

    def write(self, sample: Sample) -> None:
        """Append the members of ``sample`` in their order."""
        for member in sample.members:
            ext = member.name.removeprefix(f"{sample.key}.")
            if member.passed is None:
                # One call a member: a call sorts what it is given.
                self._tar.write({"__key__": sample.key, ext: member.data})
            else:
                self._stream(member)
            # The archive object would otherwise remember every header it has written.
            self._tar.tarstream.members.clear()

    def _stream(self, member: Member) -> None:
        """Append a member that is never held in memory, which webdataset's writer cannot."""
        info = TarInfo(member.name)
        info.size, info.mode = member.size, _MODE
        with member.open() as content:
            self._tar.tarstream.addfile(info, content)

    def close(self) -> tuple[str, int]:
        """End the archive; return its (sha256, size in bytes)."""
        self._tar.close()
        self._file.close()
        return self._file.sha256.hexdigest(), self._file.size

    def abort(self) -> None:
        """Close and delete the unfinished file."""
        # What could not be flushed is deleted anyway.
        with contextlib.suppress(OSError, UsageError):
            self._tar.close()
        with contextlib.suppress(OSError, UsageError):
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


class _HashedFile:
    """A local file that counts and hashes what is written, and leaves holes for zeros."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.sha256 = hashlib.sha256()
        self.size = 0
        with storage.explained(path):
            self._file = open(path, "wb")  # noqa: SIM115 - closed by close()

    def write(self, data: bytes) -> None:
        self.sha256.update(data)
        self.size += len(data)
        with storage.explained(self._path):
            storage.write_sparse(self._file, data)

    @property
    def closed(self) -> bool:
        return self._file.closed

    def close(self) -> None:
        with storage.explained(self._path):
            self._file.truncate()
            self._file.close()


def write_shard(path: str | os.PathLike[str], samples: Iterable[Sample]) -> tuple[str, int]:
    """Write all ``samples`` to one shard; return its (sha256, size in bytes)."""
    with ShardWriter(path) as writer:
        for sample in samples:
            writer.write(sample)
        return writer.close()


@dataclass
class _Held:
    """What the sample that is being read holds so far."""

    key: str
    members: int = 0
    bytes: int = 0
