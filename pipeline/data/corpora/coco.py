"""COCO captions (Lin et al., 2014; Chen et al., 2015): photos with about five captions each."""

import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ...errors import UsageError
from .photos import Photo, gather, make_samples
from .source import entries, image_names, read_json, source_folder
from .splits import assign_splits
from .tables import CaptionRow
from .writing import write_corpus

_KEPT = ("id", "width", "height", "flickr_url", "coco_url")

log = logging.getLogger(__name__)


def build_coco(
    src: str, out: str, splits: Sequence[str] = (), samples_per_shard: int = 1000
) -> dict[str, int]:
    """Pack every captioned set of COCO that is there; return the number of samples by split.

    A sample is ``KEY.jpg`` byte for byte, ``KEY.txt`` (the first caption) and ``KEY.json`` (all
    ``captions``, ``source``, ``file``, ``license``, and the image's ``id``, size and addresses).

    Args:
        src: folder with ``annotations/captions_train2017.json`` and ``train2017/``, likewise for
            ``val2017`` and the sets of 2014; tables without a folder of images are passed over.
        out: folder URL, empty or new, outside ``src``.
        splits: see :func:`.splits.assign_splits`; the sets are the splits when empty. Karpathy's
            file needs both sets of a year.
        samples_per_shard: at least 1.

    Raises:
        UsageError: another layout, a caption without its image or the reverse, an image in two
            sets, malformed tables and splits (file and place are named), ``out`` not empty or in
            ``src``.
    """
    folder = source_folder(src, out)
    photos: list[Photo] = []
    first: dict[int, str] = {}
    for name in _find_sets(folder):
        table = folder / "annotations" / f"captions_{name}.json"
        photos += _read_set(table, folder / name, first)
    groups = assign_splits(photos, splits)
    samples = {split: make_samples(group) for split, group in groups.items()}
    return write_corpus(out, samples, samples_per_shard)


def _find_sets(folder: Path) -> list[str]:
    tables = sorted((folder / "annotations").glob("captions_*.json"))
    named = [table.stem.removeprefix("captions_") for table in tables]
    for images in sorted(folder.glob("train*/")) + sorted(folder.glob("val*/")):
        if images.name not in named and image_names(images):
            table = folder / "annotations" / f"captions_{images.name}.json"
            raise UsageError(f"{table} does not exist, but {images} holds images; add the table")
    present = [name for name in named if (folder / name).is_dir()]
    if not present:
        raise UsageError(
            f"{folder} holds no annotations/captions_<set>.json with its images in <set>/ "
            f"(e.g. train2017; tables found: {', '.join(named) or 'none'})"
        )
    for name in sorted(set(named) - set(present)):
        log.warning("captions_%s.json is passed over: there is no folder %s", name, name)
    return present


def _read_set(table: Path, images: Path, first: dict[int, str]) -> list[Photo]:
    """Return the photos of one set; ``first`` collects the places of the image ids so far."""
    content = read_json(table)
    described: dict[int, dict[str, Any]] = {}
    names: set[str] = set()
    for place, image in entries(table, content, "images"):
        number, name = image.get("id"), image.get("file_name")
        if not isinstance(number, int) or not isinstance(name, str):
            raise UsageError(f"{place}: 'id' must be a number and 'file_name' a text")
        if first.setdefault(number, place) != place:
            raise UsageError(f"{place}: the image {number} is already at {first[number]}")
        if name in names:
            raise UsageError(f"{place}: the file name {name!r} comes a second time")
        names.add(name)
        described[number] = image
    photos = gather(_rows(table, content, described), images, table)
    licenses = _licenses(table, content)
    for image in described.values():
        name = image["file_name"]
        if name not in photos:
            raise UsageError(f"{first[image['id']]}: {name!r} has no caption and no image")
        facts = {"source": "COCO", "file": f"{images.name}/{name}"}
        facts |= {key: image[key] for key in _KEPT if key in image}
        photos[name].facts = facts | {"license": licenses.get(str(image.get("license")))}
        photos[name].split = re.sub(r"\d+$", "", images.name)
    return list(photos.values())


def _rows(
    table: Path, content: dict[str, Any], described: dict[int, dict[str, Any]]
) -> Iterator[CaptionRow]:
    seen: dict[str, str] = {}
    for place, entry in entries(table, content, "annotations"):
        number, caption = entry.get("image_id"), entry.get("caption")
        if not isinstance(number, int) or not isinstance(caption, str):
            raise UsageError(f"{place}: 'image_id' must be a number and 'caption' a text")
        if number not in described:
            raise UsageError(f"{place}: no image with the id {number} in the list 'images'")
        if "id" in entry and seen.setdefault(str(entry["id"]), place) != place:
            before = seen[str(entry["id"])]
            raise UsageError(f"{place}: the id {entry['id']} is already at {before}")
        yield CaptionRow(place, described[number]["file_name"], [caption])


def _licenses(table: Path, content: dict[str, Any]) -> dict[str, str]:
    """Return the licenses by id, as name and address."""
    if "licenses" not in content:
        return {}
    return {
        str(entry.get("id")): f"{entry.get('name')} ({entry.get('url')})"
        for _, entry in entries(table, content, "licenses")
    }
