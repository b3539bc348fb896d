"""Flickr8K and Flickr30K: photos with five captions each.

Flickr8K: Hodosh, Young and Hockenmaier, 2013, 8,091 photos. Flickr30K: Young, Lai, Hodosh and
Hockenmaier, 2014, 31,783 photos.
"""

import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ...errors import UsageError
from .photos import gather, make_samples
from .source import find_one, numbered_lines, source_folder
from .splits import assign_splits
from .tables import CaptionRow, read_pairs, read_tokens, refuse_repeated
from .writing import write_corpus

_TERMS = "non-commercial research and education only; the photos belong to their owners"
_TABLES_8K = ("captions.txt", "Flickr8k.token.txt", "Flickr8k_text/Flickr8k.token.txt")
_IMAGES_8K = (
    "Images/",
    "Flicker8k_Dataset/",
    "Flickr8k_Dataset/",
    "Flickr8k_Dataset/Flicker8k_Dataset/",
)
# The owner's token file captions this file, which is not among the images.
_NO_IMAGE = "2258277193_586949ec62.jpg.1"
_TABLES_30K = (
    "results.csv",
    "flickr30k_images/results.csv",
    "results_20130124.token",
    "flickr30k/results_20130124.token",
)
_IMAGES_30K = (
    "flickr30k_images/flickr30k_images/",
    "flickr30k_images/",
    "flickr30k-images/",
    "Images/",
    "images/",
)
_HEADER = ["image_name", "comment_number", "comment"]
# One row of the distributed file, caption 4 of 2199200615.jpg, lacks its second bar.
_ROW = re.compile(r"([^|]+?)\s*\|\s*(\d+)(?:\s*\||\s|$)\s*(.*)")

log = logging.getLogger(__name__)


def build_flickr8k(
    src: str, out: str, splits: Sequence[str] = (), samples_per_shard: int = 1000
) -> dict[str, int]:
    """Pack Flickr8K; return the number of samples by split.

    Args:
        src: folder with ``captions.txt`` and ``Images/``, or ``Flickr8k.token.txt`` and
            ``Flicker8k_Dataset/``.
        out: folder URL, empty or new, outside ``src``.
        splits: see :func:`.splits.assign_splits`; all is ``train`` when empty.
        samples_per_shard: at least 1.

    Raises:
        UsageError: a caption without its image or the reverse, malformed tables and splits
            (file and line are named), another layout, ``out`` not empty or in ``src``.
    """
    folder = source_folder(src, out)
    table = find_one(folder, _TABLES_8K, "captions of Flickr8K")
    images = find_one(folder, _IMAGES_8K, "images of Flickr8K")
    return _build("Flickr8K", _rows(table), images, table, out, splits, samples_per_shard)


def _rows(table: Path) -> Iterator[CaptionRow]:
    for row in (read_pairs if table.name == "captions.txt" else read_tokens)(table):
        if row.file == _NO_IMAGE:
            log.warning("%s: %s has no image; passed over", row.place, row.file)
        else:
            yield row


def build_flickr30k(
    src: str, out: str, splits: Sequence[str] = (), samples_per_shard: int = 1000
) -> dict[str, int]:
    """Pack Flickr30K; return the number of samples by split.

    Args:
        src: folder with ``results.csv`` (or ``results_20130124.token``) and ``flickr30k_images/``.
        out: folder URL, empty or new, outside ``src``.
        splits: see :func:`.splits.assign_splits`; all is ``train`` when empty.
        samples_per_shard: at least 1.

    Raises:
        UsageError: as :func:`build_flickr8k`.
    """
    folder = source_folder(src, out)
    table = find_one(folder, _TABLES_30K, "captions of Flickr30K")
    images = find_one(folder, _IMAGES_30K, "images of Flickr30K")
    rows = read_tokens(table) if table.suffix == ".token" else _read_results(table)
    return _build("Flickr30K", rows, images, table, out, splits, samples_per_shard)


def _read_results(path: Path) -> Iterator[CaptionRow]:
    """Yield the rows of ``results.csv``: no CSV, but ``name| number| caption`` without quoting."""
    lines = numbered_lines(path)
    place, header = next(lines, (f"{path} line 1", ""))
    if [part.strip() for part in header.split("|")] != _HEADER:
        raise UsageError(f"{place}: the header must be {'| '.join(_HEADER)}, not {header[:60]!r}")
    first: dict[tuple[str, str], str] = {}
    for place, line in lines:
        match = _ROW.fullmatch(line)
        if match is None:
            raise UsageError(f"{place}: not of the form NAME.jpg| N| caption: {line[:60]!r}")
        file, number, caption = match.groups()
        refuse_repeated(first, place, file, number)
        yield CaptionRow(place, file, [caption])


def _build(
    name: str,
    rows: Iterable[CaptionRow],
    images: Path,
    table: Path,
    out: str,
    splits: Sequence[str],
    samples_per_shard: int,
) -> dict[str, int]:
    """Pack the photos of a Flickr corpus; return the number of samples by split.

    A sample is ``KEY.jpg`` byte for byte, ``KEY.txt`` (the first caption) and ``KEY.json`` (all
    ``captions``, ``source``, ``file``, ``terms``).

    Raises:
        UsageError: a caption without its image or the reverse, malformed tables and splits (file
            and line are named).
    """
    photos = gather(rows, images, table)
    for file, photo in photos.items():
        facts = {"source": name, "file": f"{images.name}/{file}", "terms": _TERMS}
        photo.facts = facts
    groups = assign_splits(photos.values(), splits)
    samples = {split: make_samples(group) for split, group in groups.items()}
    return write_corpus(out, samples, samples_per_shard)
