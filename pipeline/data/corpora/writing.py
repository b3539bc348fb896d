"""Write a whole corpus of shards, or nothing; a corpus that is there already is left as it is."""

import glob
import logging
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import chain, islice
from pathlib import Path

from ...errors import UsageError
from .. import storage
from ..digest import sha256_of
from ..local_files import is_temporary, lock, temporary_path
from ..shards import Sample, ShardWriter

log = logging.getLogger(__name__)


def write_corpus(
    out: str, splits: Mapping[str, Iterable[Sample]], samples_per_shard: int
) -> dict[str, int]:
    """Write ``OUT/<split>-000.tar`` and so on; return the number of samples by split.

    A new local folder appears under its name only when all of it is written; one that is there
    already gets its files when all are written. The same call again finds the same bytes there and
    leaves them.

    Raises:
        UsageError: the folder holds something else, no space, no permission.
    """
    if samples_per_shard < 1:
        raise UsageError(f"samples_per_shard must be at least 1, not {samples_per_shard}")
    refuse_existing(out)
    counts = {}
    with staged(out) as folder:
        for split, samples in splits.items():
            counts[split] = _write_split(folder, split, samples, samples_per_shard)
    return counts


def refuse_existing(out: str) -> None:
    """Raise UsageError when the folder ``out`` already holds something other than shards."""
    path = storage.local_path(out)
    names = storage.list_names(out) if path is None or not path.is_dir() else os.listdir(path)
    if any(not (name.endswith(".tar") or is_temporary(name)) for name in names):
        raise UsageError(f"{out} is not an empty folder; delete it or choose another one")


def _write_split(folder: Path, split: str, samples: Iterable[Sample], size: int) -> int:
    count, remaining = 0, iter(samples)
    for shard, first in enumerate(remaining):
        with ShardWriter(folder / f"{split}-{shard:03d}.tar") as writer:
            for sample in chain([first], islice(remaining, size - 1)):
                writer.write(sample)
                count += 1
    return count


@contextmanager
def staged(out: str) -> Iterator[Path]:
    """Yield a local folder whose files are moved to ``out`` when the block succeeds.

    When it fails, ``out`` holds none of them. Files that ``out`` held before must be the same.

    Raises:
        UsageError: ``out`` holds another file.
    """
    path = storage.local_path(out)
    if path is None:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            yield folder
            _upload(_missing(folder, out), out)
        return
    # A link stays a link; a folder that is there may be a mount point, which nothing can replace.
    path = path.resolve()
    with _staging(path if path.is_dir() else path.parent, path.name) as folder:
        yield folder
        missing = _missing(folder, out)
        with storage.explained(path):
            if path.exists():
                for file in missing:
                    os.replace(file, path / file.name)
            else:
                os.replace(folder, path)


@contextmanager
def _staging(parent: Path, name: str) -> Iterator[Path]:
    """Yield a folder below ``parent`` that vanishes afterwards; those of dead calls vanish now."""
    if parent.is_dir():
        for entry in parent.glob(f".{glob.escape(name)}.*.tmp"):
            if is_temporary(entry.name) and entry.is_dir():
                with suppress(OSError), lock(entry) as dead:
                    if dead:
                        shutil.rmtree(entry, ignore_errors=True)
    folder = temporary_path(parent / name)
    storage.make_folder(str(folder))
    try:
        with lock(folder) as held:
            if not held:
                raise UsageError(f"{folder} was taken for a dead command's; run the same again")
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _missing(folder: Path, out: str) -> list[Path]:
    """Return the files of ``folder`` that ``out`` lacks, when those that it has are the same."""
    made = {file.name: file for file in sorted(folder.iterdir())}
    there = storage.list_names(out)
    for name in there:
        url = storage.join(out, name)
        if name not in made or sha256_of(str(made[name])) != sha256_of(url):
            raise UsageError(
                f"{url} is there and is not what this command writes: the source or the options "
                "have changed since; choose another folder, or delete this one"
            )
    if there:
        log.info("%s: %d of %d shards are there already", out, len(there), len(made))
    return [file for name, file in made.items() if name not in there]


def _upload(files: Iterable[Path], out: str) -> None:
    """Copy all files, or delete what was copied when one fails."""
    done: list[str] = []
    try:
        for file in files:
            url = storage.join(out, file.name)
            storage.put_file(file, url)
            done.append(url)
    except BaseException:
        for url in done:
            storage.remove(url)
        raise
