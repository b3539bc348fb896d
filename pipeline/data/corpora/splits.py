"""Which photo goes into which split: Karpathy's JSON files, or plain lists of image names."""

import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from ...errors import UsageError
from .photos import TRAIN, Photo
from .source import entries, numbered_lines, read_json

_HOW = (
    "give Karpathy's JSON file (dataset_flickr8k.json, dataset_coco.json, ...), or NAME=FILE for a "
    "text file of image names, e.g. test=Flickr_8k.testImages.txt"
)
# Karpathy's "restval" are the images of COCO's validation set that he adds to the training set.
_RENAMED = {"restval": TRAIN}

log = logging.getLogger(__name__)


class _Entry(NamedTuple):
    """``names``: one image under the names that it may have in the corpus, likeliest first."""

    place: str
    names: tuple[str, ...]
    split: str


def assign_splits(photos: Iterable[Photo], specs: Sequence[str]) -> dict[str, list[Photo]]:
    """Return the photos by split, in their own order.

    Without ``specs`` each goes to the split that it came with. With them, photos that no entry
    names go to ``train``, or are left out (and counted in the log) when ``train`` has entries.

    Args:
        photos: the whole corpus.
        specs: paths of Karpathy's JSON files, ``NAME=FILE`` for text files of image names, with or
            without extension.

    Raises:
        UsageError: an entry that no image has, one image in two places, a malformed file; file and
            line are named.
    """
    every = list(photos)
    if not specs:
        return _grouped((photo.split, photo) for photo in every)
    chosen = _choose(every, specs)
    has_train = any(entry.split == TRAIN for entry in chosen.values())
    found = []
    for photo in every:
        entry = chosen.get(photo.key)
        if entry is not None or not has_train:
            found.append((TRAIN if entry is None else entry.split, photo))
    if len(found) < len(every):
        log.warning(
            "%d images are in no split and left out, e.g. %s",
            len(every) - len(found),
            next(photo.path.name for photo in every if photo.key not in chosen),
        )
    return _grouped(found)


def _choose(photos: Sequence[Photo], specs: Sequence[str]) -> dict[str, _Entry]:
    """Return the entry of each photo that has one, by key."""
    known = {alias: photo for photo in photos for alias in photo.aliases()}
    chosen: dict[str, _Entry] = {}
    unknown: list[_Entry] = []
    for entry in _read(specs):
        photo = next((known[name] for name in entry.names if name in known), None)
        if photo is None:
            unknown.append(entry)
            continue
        before = chosen.setdefault(photo.key, entry)
        if before is not entry:
            raise UsageError(
                f"{entry.place}: {entry.names[0]!r} comes a second time; it is in the split "
                f"{before.split!r} by {before.place}"
            )
    if unknown:
        raise UsageError(
            f"{unknown[0].place}: {unknown[0].names[0]!r} is no image of this corpus "
            f"({len(unknown)} such entries in all)"
        )
    return chosen


def _grouped(pairs: Iterable[tuple[str, Photo]]) -> dict[str, list[Photo]]:
    groups: dict[str, list[Photo]] = {}
    for split, photo in pairs:
        groups.setdefault(split, []).append(photo)
    return groups


def _read(specs: Sequence[str]) -> Iterator[_Entry]:
    for spec in specs:
        name, mark, file = spec.partition("=")
        if spec.lower().endswith(".json"):
            yield from _read_karpathy(Path(spec))
        elif mark and file:
            yield from _read_list(Path(file), _split_name(name, f"--splits {spec}"))
        else:
            raise UsageError(f"--splits {spec}: {_HOW}")


def _read_list(path: Path, split: str) -> Iterator[_Entry]:
    for place, line in numbered_lines(path):
        yield _Entry(place, (PurePosixPath(line).name,), split)


def _read_karpathy(path: Path) -> Iterator[_Entry]:
    for place, image in entries(path, read_json(path), "images"):
        name, split, number = (image.get(field) for field in ("filename", "split", "cocoid"))
        if not isinstance(name, str) or not isinstance(split, str):
            raise UsageError(f"{place}: 'filename' and 'split' must be texts")
        # The files of COCO have other names since 2017; their numbers are the same.
        names = (name,) if number is None else (name, str(number))
        yield _Entry(place, names, _split_name(_RENAMED.get(split, split), place))


def _split_name(name: str, place: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][\w-]*", name):
        raise UsageError(f"{place}: {name!r} cannot name a split; use letters, digits, - and _")
    return name
