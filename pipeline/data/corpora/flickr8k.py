"""Flickr8K (Hodosh, Young and Hockenmaier, 2013): 8,091 photos with five captions each."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from .photos import FLICKR_TERMS, gather, make_samples
from .source import find_one, source_folder
from .splits import assign_splits
from .tables import CaptionRow, read_pairs, read_tokens
from .writing import write_corpus

_TABLES = ("captions.txt", "Flickr8k.token.txt", "Flickr8k_text/Flickr8k.token.txt")
_IMAGES = (
    "Images/",
    "Flicker8k_Dataset/",
    "Flickr8k_Dataset/",
    "Flickr8k_Dataset/Flicker8k_Dataset/",
)
# The owner's token file captions this file, which is not among the images.
_NO_IMAGE = "2258277193_586949ec62.jpg.1"

log = logging.getLogger(__name__)


def build_flickr8k(
    src: str, out: str, splits: Sequence[str] = (), samples_per_shard: int = 1000
) -> dict[str, int]:
    """Pack Flickr8K; return the number of samples by split.

    A sample is ``KEY.jpg`` byte for byte, ``KEY.txt`` (the first caption) and ``KEY.json`` (all
    ``captions``, ``source``, ``file``, ``terms``).

    Args:
        src: folder with ``captions.txt`` and ``Images/``, or ``Flickr8k.token.txt`` and
            ``Flicker8k_Dataset/``.
        out: folder URL, empty or new, outside ``src``.
        splits: see :func:`.splits.assign_splits`; all is ``train`` when empty.
        samples_per_shard: at least 1.

    Raises:
        UsageError: another layout, a caption without its image or the reverse, malformed tables
            and splits (file and line are named), ``out`` not empty or in ``src``.
    """
    folder = source_folder(src, out)
    table = find_one(folder, _TABLES, "captions of Flickr8K")
    images = find_one(folder, _IMAGES, "images of Flickr8K")
    photos = gather(_rows(table), images, table)
    for name, photo in photos.items():
        file = f"{images.name}/{name}"
        photo.facts = {"source": "Flickr8K", "file": file, "terms": FLICKR_TERMS}
    groups = assign_splits(photos.values(), splits)
    samples = {split: make_samples(group) for split, group in groups.items()}
    return write_corpus(out, samples, samples_per_shard)


def _rows(table: Path) -> Iterator[CaptionRow]:
    for row in (read_pairs if table.name == "captions.txt" else read_tokens)(table):
        if row.file == _NO_IMAGE:
            log.warning("%s: %s has no image; passed over", row.place, row.file)
        else:
            yield row
