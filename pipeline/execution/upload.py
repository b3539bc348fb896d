"""Copying a published output to where people take it from: the Hub, a bucket, another folder."""

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from ..data import storage
from ..data.digest import sha256_of
from ..data.hub import SCHEME, HubFile, HubFolder, blob_of
from ..data.ledger import INDEX_NAME, PUBLISHED_NAME, SUCCESS_NAME
from ..data.local_copy import local_copy
from ..data.local_files import is_temporary
from ..errors import UsageError, ViolationError

log = logging.getLogger(__name__)

# One commit of the Hub; what of an output in a bucket lies on this disk at a time.
_GROUP_FILES = 50
_GROUP_BYTES = 5 << 30
# What tells readers that all the rest is there.
_LAST = (INDEX_NAME, SUCCESS_NAME, PUBLISHED_NAME)


class PublishedFile(NamedTuple):
    """A file of the output: its name, bytes, and sha256; of a shard as the index has them."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Upload:
    """What came of an upload.

    Attributes:
        destination: where to.
        sent: files that were sent now.
        kept: files that were there already.
    """

    destination: str
    sent: int
    kept: int

    def __str__(self) -> str:
        return (
            f"{self.destination}: {self.sent} files sent, {self.kept} were there; "
            f"all have the checksums of the output"
        )


class Destination(Protocol):
    """A place that a copy is published to."""

    def names(self) -> set[str]:
        """Return the names of the files that are there."""

    def lacks(self, files: Sequence[PublishedFile]) -> list[PublishedFile]:
        """Return those of ``files`` that are missing there or hold something else."""

    def send(self, files: Mapping[str, Path]) -> None:
        """Write local files under their names."""


class _Hub:
    """A dataset repository; the Hub tells the checksums of what it holds."""

    def __init__(self, url: str, output: str, *, private: bool) -> None:
        self._folder = HubFolder(url, private=private)
        self._output = output
        self._folder.make()

    def names(self) -> set[str]:
        return set(self._folder.files())

    def lacks(self, files: Sequence[PublishedFile]) -> list[PublishedFile]:
        held = self._folder.files()
        return [file for file in files if not self._is(file, held.get(file.name))]

    def _is(self, file: PublishedFile, there: HubFile | None) -> bool:
        if there is None or there.size != file.size:
            return False
        if there.sha256:
            return there.sha256 == file.sha256
        return blob_of(storage.read_bytes(storage.join(self._output, file.name))) == there.blob

    def send(self, files: Mapping[str, Path]) -> None:
        self._folder.send(files, f"Publish {len(files)} files")


class _Store:
    """A folder of any store; what it holds is read again to be compared."""

    def __init__(self, url: str) -> None:
        self._url = url

    def names(self) -> set[str]:
        try:
            found = storage.walk(self._url)
        except FileNotFoundError:
            return set()
        return {name for name in found if not is_temporary(storage.base_name(name))}

    def lacks(self, files: Sequence[PublishedFile]) -> list[PublishedFile]:
        return [file for file in files if not self._is(file)]

    def _is(self, file: PublishedFile) -> bool:
        url = storage.join(self._url, file.name)
        try:
            return storage.size(url) == file.size and sha256_of(url) == file.sha256
        except (FileNotFoundError, NotADirectoryError):
            return False

    def send(self, files: Mapping[str, Path]) -> None:
        for name, path in files.items():
            storage.put_file(path, storage.join(self._url, name))


def upload(output: str, record: str, destination: str, *, private: bool = False) -> Upload:
    """Make ``destination`` hold exactly the files of a published output.

    Files that are there with the right content are not sent again, so that the same call goes on
    where an earlier one was cut off. The marks of a complete copy come last.

    Args:
        output: URL of an output that `publish` has marked.
        record: URL of its record, which is never sent.
        destination: ``hf://datasets/OWNER/NAME``, or any URL that can be written.
        private: whether a repository of the Hub that is made here is private.

    Raises:
        UsageError: the destination cannot be written, or holds files of something else.
        ViolationError: a shard is not what the index says, here or there.
        UnavailableError: a store does not answer.
    """
    _refuse_nested(destination, output, record)
    files = published_files(output)
    hub = destination.startswith(SCHEME)
    target: Destination = _Hub(destination, output, private=private) if hub else _Store(destination)
    foreign = sorted(target.names() - {file.name for file in files})
    if foreign:
        raise UsageError(
            f"{destination} holds {foreign[0]}, which is no file of {output} ({len(foreign)} such "
            f"files); delete them there, or choose another place"
        )
    lacking, sent = target.lacks(files), 0
    for group in _groups(lacking):
        _send(output, group, target)
        sent += len(group)
        log.info("%s: %d of %d files sent", destination, sent, len(lacking))
    wrong = target.lacks(lacking)
    if wrong:
        raise ViolationError(
            f"{destination}: {wrong[0].name} is not what was sent ({len(wrong)} such files); run "
            f"the same command again"
        )
    return Upload(destination, sent, len(files) - sent)


def published_files(output: str) -> list[PublishedFile]:
    """Return every file of an output, its shards first and the marks of a complete copy last.

    Raises:
        OSError: it has no index, or a file cannot be read.
    """
    index = json.loads(storage.read_bytes(storage.join(output, INDEX_NAME)))["shardlist"]
    shards = [PublishedFile(item["url"], item["filesize"], item["sha256"]) for item in index]
    known = {file.name for file in shards}
    others = [
        name
        for name in storage.walk(output)
        if name not in known and not is_temporary(storage.base_name(name))
    ]
    others.sort(key=lambda name: _LAST.index(name) if name in _LAST else -1)
    urls = {name: storage.join(output, name) for name in others}
    return shards + [
        PublishedFile(name, int(storage.size(url) or 0), sha256_of(url))
        for name, url in urls.items()
    ]


def _refuse_nested(destination: str, output: str, record: str) -> None:
    if storage.is_http(destination):
        raise UsageError(f"{destination} cannot be written; give the URL of a bucket or the Hub")
    for other in (output, record):
        if storage.is_inside(destination, other) or storage.is_inside(other, destination):
            raise UsageError(f"{destination} and {other} lie in each other; choose another place")


def _groups(files: Iterable[PublishedFile]) -> Iterator[list[PublishedFile]]:
    group: list[PublishedFile] = []
    for file in files:
        if len(group) == _GROUP_FILES or sum(f.size for f in group) + file.size > _GROUP_BYTES:
            yield from [group] if group else []
            group = []
        group.append(file)
    yield from [group] if group else []


def _send(output: str, group: Sequence[PublishedFile], target: Destination) -> None:
    with ExitStack() as stack:
        paths = {
            file.name: stack.enter_context(local_copy(storage.join(output, file.name)))
            for file in group
        }
        for file in group:
            if sha256_of(str(paths[file.name])) != file.sha256:
                raise ViolationError(
                    f"{storage.join(output, file.name)} is not what {INDEX_NAME} says and was not "
                    f"sent; run verify"
                )
        target.send(paths)
