"""Regular files of an untrusted tar stream, plain or compressed, read once from front to back."""

import tarfile
from collections.abc import Callable, Iterator
from functools import partial
from typing import BinaryIO, NamedTuple, Self, cast

from ..errors import ShardError
from .compression import DAMAGED, HashedStream, decompressed, read_whole

_BLOCK = 512
_CHUNK = 1 << 16
_PIECE = 1 << 20
_MAX_HEADER = 1 << 20
_MAX_NAME = 1024
# Reads behind the end that tarfile makes of a whole archive, and some more.
_MAX_EMPTY_READS = 8
_EXTENDED_HEADERS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
# tarfile lets these through on archives that were made to break it.
_DAMAGE = (tarfile.TarError, ValueError, IndexError, RecursionError)


class Entry(NamedTuple):
    """A regular file: its name, its declared size in bytes, and a function that reads it.

    ``chunks`` works until the next entry is asked for; an entry that is not read is skipped.
    """

    name: str
    size: int
    chunks: Callable[[], Iterator[bytes]]

    def read(self) -> bytes:
        """Return the whole content."""
        return b"".join(self.chunks())


class TarStream:
    """Iterate once over the regular files of a tar archive; directories are passed over.

    Args:
        stream: binary stream at the start of the archive.
        name: what error messages call it.

    Raises (while iterating):
        ShardError: not a tar, truncated (also between two members: the end marker is required),
            followed by other data, unsafe names, links, devices, sparse files.
    """

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self._source = HashedStream(stream)
        self._tap = _Tap(self._source)
        self._name = name

    @property
    def sha256(self) -> str:
        """Hex digest of the bytes read so far, as they are stored."""
        return self._source.hash.hexdigest()

    @property
    def size(self) -> int:
        """Bytes read so far, as they are stored."""
        return self._source.count

    def error(self, message: str) -> ShardError:
        """Return an error that names the archive."""
        return ShardError(f"{self._name}: {message}")

    def __iter__(self) -> Iterator[Entry]:
        try:
            self._tap.stream = decompressed(self._source)
            source = cast("BinaryIO", self._tap)
            tar = tarfile.open(  # noqa: SIM115 - closed below, outside this try
                fileobj=source, mode="r|", bufsize=_CHUNK, tarinfo=_CappedInfo, encoding="utf-8"
            )
        except _DAMAGE as error:
            raise self.error(
                f"not a tar archive ({error}); shards are .tar files, plain or compressed by gzip, "
                "bzip2, xz or zstd"
            ) from error
        with tar:
            while (info := self._next(tar)) is not None:
                # The archive object would otherwise remember every header it has seen.
                tar.members.clear()  # type: ignore[attr-defined]
                self._check_member(info)
                if info.isreg():
                    yield Entry(info.name, info.size, partial(self._chunks, tar, info))
            self._check_end(tar.offset)

    def _next(self, tar: tarfile.TarFile) -> tarfile.TarInfo | None:
        try:
            return tar.next()
        except _DAMAGE as error:
            raise self.error(
                f"truncated or damaged near byte {tar.offset} ({error}); copy the shard again"
            ) from error

    def _chunks(self, tar: tarfile.TarFile, info: tarfile.TarInfo) -> Iterator[bytes]:
        file = tar.extractfile(info)
        assert file is not None, "regular files have content"
        try:
            while chunk := file.read(_PIECE):
                yield chunk
        except tarfile.TarError as error:
            raise self.error(f"truncated inside {info.name!r}; copy the shard again") from error

    def _check_member(self, info: tarfile.TarInfo) -> None:
        name = info.name
        regular = info.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not info.issparse()
        if not (regular or info.isdir()):
            raise self.error(
                f"the member {name!r} is a link, a device or sparse; only regular files are allowed"
            )
        if info.size < 0:
            raise self.error(f"the member {name!r} declares a negative size; repack the shard")
        unsafe = name.startswith("/") or "\\" in name or ".." in name.split("/")
        # Bytes that are not UTF-8 arrive as lone surrogates.
        codes = [ord(character) for character in name]
        odd = any(code < 32 or 0xD800 <= code < 0xE000 for code in codes)
        if unsafe or odd or len(name) > _MAX_NAME:
            raise self.error(
                f"the member name {name[:80]!r} is unsafe; "
                "names must be relative UTF-8 paths without '..', backslash or control characters"
            )

    def _check_end(self, offset: int) -> None:
        tap = self._tap
        rest = tap.last[offset - tap.count :] if offset < tap.count else b""
        zeros = not any(rest)
        try:
            while chunk := tap.read(_CHUNK):
                zeros = zeros and not any(chunk)
        except tarfile.TarError as error:
            raise self.error(f"truncated or damaged at its end ({error}); copy it again") from error
        # What follows a compressed stream is not read with it, but it belongs to the file.
        while self._source.read(_CHUNK):
            pass
        if tap.count - offset < 2 * _BLOCK:
            raise self.error("truncated: the archive has no end marker; copy the shard again")
        if not zeros:
            raise self.error(
                f"damaged or followed by other data at byte {offset}; copy or repack the shard"
            )


class _CappedInfo(tarfile.TarInfo):
    """Header that refuses the sizes with which an archive could exhaust memory or never end."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        info = super().frombuf(buf, encoding, errors)
        # A negative size sends tarfile backwards, into an endless loop.
        if info.size < 0 or (info.type in _EXTENDED_HEADERS and info.size > _MAX_HEADER):
            raise tarfile.ReadError(f"a header that declares {info.size} bytes")
        return info


class _Tap:
    """The bytes of the archive, counted; the last chunk is kept.

    Every chunk but the last is whole, so the block where an archive ends lies in ``last``.
    """

    def __init__(self, source: HashedStream) -> None:
        self._source = source
        self.stream = cast("BinaryIO", source)
        self.last = b""
        self._empty_reads = 0
        self.count = 0

    def read(self, size: int) -> bytes:
        try:
            data = read_whole(self.stream, size)
        except DAMAGED as error:
            if self._source.failed:
                raise
            raise tarfile.ReadError(f"its compression is damaged: {error}") from error
        if data:
            self.count += len(data)
            self.last = data
        elif size > 0:
            # tarfile skips an entry read by read, whatever size its header declares.
            self._empty_reads += 1
            if self._empty_reads > _MAX_EMPTY_READS:
                raise tarfile.ReadError("unexpected end of data")
        return data
