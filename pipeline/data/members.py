"""The files of a sample: those that are read, and those that are only passed on."""

import hashlib
import io
import os
import uuid
import weakref
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

from . import storage
from .formats import HEAD, holds_coded_picture, is_picture

_CAPTION_EXTS = ("txt", "json")


@dataclass(frozen=True)
class Passed:
    """Content of a member that is passed on and never held in memory.

    Two are equal when their content is. The file, where there is one, goes with the last reference.

    Attributes:
        size: bytes.
        sha256: hex digest.
        path: local file that holds it; None when nobody meant to write it again.
    """

    size: int
    sha256: str
    path: Path | None = field(default=None, compare=False)

    def open(self) -> BinaryIO:
        """Open the content for reading."""
        assert self.path is not None, "the shard was opened without a folder for what is passed on"
        return self.path.open("rb")


@dataclass(frozen=True)
class Member:
    """One file of a sample.

    Attributes:
        name: its path in the archive.
        ext: its extension in lower case.
        data: its content; empty when it is ``passed``.
        passed: content of a large file that is neither image nor caption, by name and by bytes.
    """

    name: str
    ext: str
    data: bytes = b""
    passed: Passed | None = None

    @cached_property
    def is_picture(self) -> bool:
        """Whether it is one, or holds one in base64; what is ``passed`` was looked at before."""
        return is_picture(self.ext, self.data[:HEAD]) or holds_coded_picture(self.data)

    @cached_property
    def is_opaque(self) -> bool:
        """Whether it is neither picture nor text: nobody knows what it shows."""
        if self.passed is not None:
            return True
        try:
            binary = "\0" in self.data.decode()
        except UnicodeDecodeError:
            binary = True
        return binary and not self.is_picture

    @property
    def size(self) -> int:
        """Bytes of the content."""
        return len(self.data) if self.passed is None else self.passed.size

    def open(self) -> BinaryIO:
        """Open the content for reading."""
        return io.BytesIO(self.data) if self.passed is None else self.passed.open()


def is_read(ext: str, head: bytes) -> bool:
    """Whether a member of this extension and first bytes is an image or holds captions."""
    return ext in _CAPTION_EXTS or is_picture(ext, head)


def pass_on(chunks: Iterable[bytes], folder: Path | None) -> Passed:
    """Take content in without holding it; into a file in ``folder`` when there is one.

    Raises:
        UsageError: no space.
    """
    digest, size = hashlib.sha256(), 0
    if folder is None:
        for chunk in chunks:
            digest.update(chunk)
            size += len(chunk)
        return Passed(size, digest.hexdigest())
    path = folder / f"{uuid.uuid4().hex}.member"
    try:
        with path.open("xb") as file:
            for chunk in chunks:
                digest.update(chunk)
                size += len(chunk)
                with storage.explained(path):
                    storage.write_sparse(file, chunk)
            with storage.explained(path):
                file.truncate()
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    passed = Passed(size, digest.hexdigest(), path)
    weakref.finalize(passed, _remove, os.fspath(path))
    return passed


def _remove(path: str) -> None:
    Path(path).unlink(missing_ok=True)
