"""Photos with all their captions, checked against their table and packed, one sample a photo."""

import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from ...errors import SampleError, UsageError
from ..images import converted, decode, format_of_ext, output_ext
from ..shards import Member, Sample
from .source import check_text, image_names, plain_key, read_image
from .tables import CaptionRow

TRAIN = "train"

log = logging.getLogger(__name__)


@dataclass
class Photo:
    """One image file and what the corpus says about it.

    Args:
        path: the file.
        key: of its sample.
        captions: in the table's order.
        facts: what goes into the sample's JSON beside the captions.
        split: where it goes when no splits are asked for.
    """

    path: Path
    key: str
    captions: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    split: str = TRAIN

    def aliases(self) -> set[str]:
        """Return the names under which lists of splits know it."""
        number = self.facts.get("id")
        return {self.path.name, self.path.stem} | (set() if number is None else {str(number)})


def gather(rows: Iterable[CaptionRow], folder: Path, table: Path) -> dict[str, Photo]:
    """Return the photos of ``folder`` by file name, in the order of their first row.

    Empty captions are passed over with a warning.

    Args:
        rows: the captions; ``file`` is a name directly in ``folder``.
        folder: every image file in it must be captioned.
        table: where the rows come from, for messages.

    Raises:
        UsageError: a row without its image, an image without a caption, two images of one key,
            a caption that is no text that UTF-8 can hold.
    """
    present = set(image_names(folder))
    photos: dict[str, Photo] = {}
    absent: list[CaptionRow] = []
    for row in rows:
        if row.file not in present:
            absent.append(row)
            continue
        captions = _checked(row)
        if captions:
            key = plain_key(PurePosixPath(row.file).stem)
            photos.setdefault(row.file, Photo(folder / row.file, key)).captions += captions
    if absent:
        raise UsageError(
            f"{absent[0].place}: {absent[0].file!r} is no image of {folder} ({len(absent)} such "
            "captions in all); add the images or take the captions out"
        )
    bare = sorted(present - photos.keys())
    if bare:
        raise UsageError(
            f"{folder / bare[0]} has no caption in {table} ({len(bare)} such images in all); "
            "add captions or take the images out"
        )
    if not photos:
        raise UsageError(f"{table} names no image, and {folder} holds none")
    check_keys(photos.values())
    return photos


def check_keys(photos: Iterable[Photo]) -> None:
    """Raise UsageError when two photos have one key."""
    first: dict[str, Path] = {}
    for photo in photos:
        if photo.key in first:
            raise UsageError(
                f"{first[photo.key]} and {photo.path} would both be the sample {photo.key!r}; "
                "rename one"
            )
        first[photo.key] = photo.path


def make_sample(photo: Photo, row: int) -> Sample:
    """Return ``KEY.<ext>``, ``KEY.txt`` (the first caption) and ``KEY.json`` (all, and the facts).

    The image file is kept byte for byte when its format can be published (png, webp, jpeg); others
    become png, with the same pixels as far as 8 bits hold them.

    Raises:
        UsageError: the image cannot be read or, where that is needed, decoded.
    """
    data, ext = read_image(photo.path), photo.path.suffix[1:].lower()
    published = output_ext(ext, format_of_ext(ext), "same")
    if published != ext:
        try:
            data = converted(decode(data), format_of_ext(published))
        except SampleError as error:
            raise UsageError(f"{photo.path}: {error}; replace the file or take it out") from error
    text = json.dumps({"captions": photo.captions} | photo.facts, ensure_ascii=False)
    members = {published: data, "txt": photo.captions[0].encode(), "json": text.encode()}
    parts = tuple(Member(f"{photo.key}.{ext}", ext, part) for ext, part in members.items())
    return Sample(photo.key, parts, row)


def make_samples(photos: Sequence[Photo]) -> Iterator[Sample]:
    """Yield the sample of each photo, reading one at a time."""
    for row, photo in enumerate(photos):
        yield make_sample(photo, row)


def _checked(row: CaptionRow) -> list[str]:
    captions = [text.strip() for text in row.captions]
    if not all(captions):
        log.warning("%s: an empty caption of %s is passed over", row.place, row.file)
    for text in captions:
        check_text(f"{row.place}: the caption", text)
    return [text for text in captions if text]
