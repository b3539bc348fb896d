"""Compressed shards: told by their first bytes, read without holding them."""

import bz2
import gzip
import hashlib
import io
import lzma
import re
import zlib
from typing import BinaryIO, cast

import pyarrow as pa

_ENDINGS = r"\.(?:tar(?:\.(?:gz|bz2?|xz|zst))?|tgz|tbz2?|tb2|txz|tzst)"
_NAME = re.compile(rf"(.*?){_ENDINGS}", re.IGNORECASE | re.DOTALL)
_MAGIC_BYTES = 6
_GZIP, _BZIP2, _XZ, _ZSTD = b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd"
_PACKED = (_GZIP, _BZIP2, _XZ, _ZSTD, b"PK\3\4", b"7z\xbc\xaf", b"Rar!")

DAMAGED = (EOFError, OSError, lzma.LZMAError, zlib.error, pa.ArrowException)
"""What readers of compressed streams raise where the stream is damaged or ends early."""


def shard_stem(name: str) -> str | None:
    """Return the name of a shard file without its ending; None for files that are no shards.

    Endings, in upper or lower case: ``.tar``, ``.tar.gz``, ``.tgz``, ``.tar.bz2``, ``.tbz2``,
    ``.tar.xz``, ``.txz``, ``.tar.zst``, ``.tzst``.
    """
    match = _NAME.fullmatch(name)
    return None if match is None else match.group(1)


def is_archive(head: bytes) -> bool:
    """Whether a file that starts with ``head`` (512 bytes) is a tar file or a packed one."""
    return head[257:262] == b"ustar" or head.startswith(_PACKED)


class HashedStream(io.RawIOBase):
    """Hashes and counts what is read of ``stream``.

    Attributes:
        hash: sha256 of the bytes read so far.
        count: bytes read so far.
        failed: whether reading ``stream`` itself has raised an error.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._ahead = b""
        self.hash = hashlib.sha256()
        self.count = 0
        self.failed = False

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def peek(self, size: int) -> bytes:
        """Return the first bytes without passing them."""
        while len(self._ahead) < size and (more := self._read(size - len(self._ahead))):
            self._ahead += more
        return self._ahead

    def _read(self, size: int) -> bytes:
        try:
            return self._stream.read(size)
        except BaseException:
            self.failed = True
            raise

    def read(self, size: int = -1) -> bytes:
        """Read at most ``size`` bytes."""
        data, self._ahead = self._ahead[:size], self._ahead[size:]
        data = data or self._read(size)
        self.hash.update(data)
        self.count += len(data)
        return data


def read_whole(stream: BinaryIO, size: int) -> bytes:
    """Read ``size`` bytes, or what there is to the end."""
    data = stream.read(size)
    while 0 < len(data) < size and (more := stream.read(size - len(data))):
        data += more
    return data


def decompressed(source: HashedStream) -> BinaryIO:
    """Return a stream of the plain bytes of ``source``, which its own first bytes describe."""
    start = source.peek(_MAGIC_BYTES)
    raw = cast("BinaryIO", source)
    if start.startswith(_GZIP):
        return cast("BinaryIO", gzip.GzipFile(fileobj=raw, mode="rb"))
    if start.startswith(_BZIP2):
        return cast("BinaryIO", bz2.BZ2File(raw))
    if start.startswith(_XZ):
        return cast("BinaryIO", lzma.LZMAFile(raw))
    if start.startswith(_ZSTD):
        return cast("BinaryIO", pa.CompressedInputStream(pa.PythonFile(source, "r"), "zstd"))
    return raw
