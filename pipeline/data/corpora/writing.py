"""Write a whole corpus of shards, or nothing."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path

from ...errors import UsageError
from .. import storage
from ..shards import Sample, ShardWriter


def write_corpus(
    out: str, splits: Mapping[str, Iterable[Sample]], samples_per_shard: int
) -> dict[str, int]:
    """Write ``OUT/<split>-000.tar`` and so on; return the number of samples by split.

    A local folder appears under its name only when all of it is written.

    Raises:
        UsageError: the folder is not empty, no space, no permission.
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
    """Raise UsageError when the folder ``out`` already holds something."""
    path = storage.local_path(out)
    names = storage.list_names(out) if path is None or not path.is_dir() else os.listdir(path)
    if names or (path is not None and path.is_file()):
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

    When it fails, ``out`` holds none of them.
    """
    path = storage.local_path(out)
    if path is None:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            yield folder
            _upload(folder, out)
        return
    folder = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    storage.make_folder(str(folder))
    try:
        yield folder
        with storage.explained(path):
            os.replace(folder, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _upload(folder: Path, out: str) -> None:
    """Copy all files, or delete what was copied when one fails."""
    done: list[str] = []
    try:
        for file in sorted(folder.iterdir()):
            url = storage.join(out, file.name)
            storage.put_file(file, url)
            done.append(url)
    except BaseException:
        for url in done:
            storage.remove(url)
        raise
