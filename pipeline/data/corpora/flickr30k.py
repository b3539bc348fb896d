"""Flickr30K (Young, Lai, Hodosh and Hockenmaier, 2014): 31,783 photos with five captions each."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from ...errors import UsageError
from .photos import FLICKR_TERMS, gather, make_samples
from .source import find_one, numbered_lines, source_folder
from .splits import assign_splits
from .tables import CaptionRow, read_tokens, refuse_repeated
from .writing import write_corpus

_TABLES = (
    "results.csv",
    "flickr30k_images/results.csv",
    "results_20130124.token",
    "flickr30k/results_20130124.token",
)
_IMAGES = (
    "flickr30k_images/flickr30k_images/",
    "flickr30k_images/",
    "flickr30k-images/",
    "Images/",
    "images/",
)
_HEADER = ["image_name", "comment_number", "comment"]
# One row of the distributed file, caption 4 of 2199200615.jpg, lacks its second bar.
_ROW = re.compile(r"([^|]+?)\s*\|\s*(\d+)(?:\s*\||\s|$)\s*(.*)")


def build_flickr30k(
    src: str, out: str, splits: Sequence[str] = (), samples_per_shard: int = 1000
) -> dict[str, int]:
    """Pack Flickr30K; return the number of samples by split.

    A sample is ``KEY.jpg`` byte for byte, ``KEY.txt`` (the first caption) and ``KEY.json`` (all
    ``captions``, ``source``, ``file``, ``terms``).

    Args:
        src: folder with ``results.csv`` (or ``results_20130124.token``) and ``flickr30k_images/``.
        out: folder URL, empty or new, outside ``src``.
        splits: see :func:`.splits.assign_splits`; all is ``train`` when empty.
        samples_per_shard: at least 1.

    Raises:
        UsageError: another layout, a caption without its image or the reverse, malformed tables
            and splits (file and line are named), ``out`` not empty or in ``src``.
    """
    folder = source_folder(src, out)
    table = find_one(folder, _TABLES, "captions of Flickr30K")
    images = find_one(folder, _IMAGES, "images of Flickr30K")
    rows = read_tokens(table) if table.suffix == ".token" else _read_results(table)
    photos = gather(rows, images, table)
    for name, photo in photos.items():
        file = f"{images.name}/{name}"
        photo.facts = {"source": "Flickr30K", "file": file, "terms": FLICKR_TERMS}
    groups = assign_splits(photos.values(), splits)
    samples = {split: make_samples(group) for split, group in groups.items()}
    return write_corpus(out, samples, samples_per_shard)


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
