"""A folder of images and a table of captions, to shards."""

import json
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from unicodedata import normalize

from ...errors import UsageError
from .. import storage
from ..formats import IMAGE_EXTS
from ..shards import Member, Sample
from .source import is_image, plain_key, read_image, source_folder
from .tables import CaptionRow, find_table, read_table
from .writing import write_corpus

SPLIT = "train"
_SHOWN = 5

log = logging.getLogger(__name__)


@dataclass
class FolderReport:
    """What was written and what was left out.

    Args:
        samples: images written, each with all its captions.
        rows: rows read.
        duplicates: rows that repeat an image and its caption, by table and line.
        missing: rows whose image does not exist, by table, line and file.
        empty: rows without a caption, by table, line and file.
        uncaptioned: image files that no row names.
        listed: URL of the list of what was left out; None when that is nothing.
        out: URL of the folder of the shards.
    """

    samples: int = 0
    rows: int = 0
    duplicates: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    uncaptioned: list[str] = field(default_factory=list)
    listed: str | None = None
    out: str = ""

    def __str__(self) -> str:
        rows = len(self.missing) + len(self.empty) + len(self.duplicates)
        listed = f", listed in {self.listed}" if self.listed else ""
        return (
            f"{self.out}: {self.samples} samples; {rows} of {self.rows} rows and "
            f"{len(self.uncaptioned)} images left out{listed}"
        )

    @property
    def lost(self) -> float:
        """Share of the rows whose image or caption is missing."""
        return (len(self.missing) + len(self.empty)) / max(1, self.rows)

    def left_out(self) -> dict[str, list[str]]:
        """Return what was left out by reason."""
        return {
            "rows name an image that does not exist": self.missing,
            "rows have no caption": self.empty,
            "rows repeat an image and its caption": self.duplicates,
            "images have no caption": self.uncaptioned,
        }


def holds_pictures(url: str) -> bool:
    """Whether ``url`` is a local folder of image files, or of their table, and of no shards."""
    folder = storage.local_path(url)
    if folder is None or not folder.is_dir():
        return False
    names = os.listdir(folder)
    if any(name.endswith(".tar") or ".tar." in name for name in names):
        return False
    return bool(_image_files(folder)) or any(name.startswith("captions.") for name in names)


def build_folder(
    src: str, out: str, captions: str | None = None, samples_per_shard: int = 1000
) -> FolderReport:
    """Pack the images that a table names into ``OUT/train-000.tar`` and so on.

    A sample is ``KEY.<ext>`` with the image file as it is, and ``KEY.txt`` with its first caption;
    when any image has several captions every sample has ``KEY.json`` with the list ``captions``
    too. File names are compared in Unicode's composed form (NFC) where they do not match as they
    are. Rows of missing images, rows without a caption, repeated rows and images without a row are
    left out, logged, and listed in ``OUT-left-out.txt``.

    Args:
        src: local folder of images; the table's file names are relative to it.
        out: folder URL, empty or new, outside ``src``.
        captions: the table (see :mod:`.tables`); by default ``SRC/captions.*``.
        samples_per_shard: at least 1.

    Raises:
        UsageError: no such folder or table, a malformed row (file and line are named), a file name
            that leaves ``src`` or is no image, no image at all, ``out`` not empty or in ``src``.
    """
    folder = source_folder(src, out)
    table = find_table(folder) if captions is None else Path(captions)
    report = FolderReport(out=out)
    images = _collect(folder, table, report)
    if not images:
        raise UsageError(f"{table} names no image that exists in {folder}; check its file column")
    report.uncaptioned = sorted(_image_files(folder) - images.keys())
    samples = _samples(folder, images)
    report.samples = write_corpus(out, {SPLIT: samples}, samples_per_shard)[SPLIT]
    _tell(report, out)
    return report


def _collect(folder: Path, table: Path, report: FolderReport) -> dict[str, list[str]]:
    """Return the captions by image file, in the table's order."""
    images: dict[str, list[str]] = {}
    composed: dict[str, str] | None = None
    for row in read_table(table):
        report.rows += 1
        file = _inside(row)
        if file not in images and not (folder / file).is_file():
            if composed is None:
                composed = {normalize("NFC", name): name for name in _image_files(folder)}
            found = composed.get(normalize("NFC", file))
            if found is None:
                report.missing.append(f"{row.place}: {file}")
                continue
            file = found
        if not row.captions:
            report.empty.append(f"{row.place}: {file}")
            continue
        known = images.setdefault(file, [])
        fresh = [text for text in dict.fromkeys(row.captions) if text not in known]
        if len(fresh) < len(row.captions):
            report.duplicates.append(f"{row.place}: {file}")
        known += fresh
    return images


def _inside(row: CaptionRow) -> str:
    path = PurePosixPath(row.file)
    if path.is_absolute() or ".." in path.parts or "\0" in row.file:
        raise UsageError(f"{row.place}: {row.file!r} leaves the image folder; use relative names")
    if path.suffix[1:].lower() not in IMAGE_EXTS:
        raise UsageError(
            f"{row.place}: {row.file!r} is no image ({', '.join(sorted(IMAGE_EXTS))} are)"
        )
    return str(path)


def _image_files(folder: Path) -> set[str]:
    return {
        Path(root, name).relative_to(folder).as_posix()
        for root, _, names in os.walk(folder)
        for name in names
        if is_image(name)
    }


def _samples(folder: Path, images: dict[str, list[str]]) -> Iterator[Sample]:
    several = any(len(captions) > 1 for captions in images.values())
    used: set[str] = set()
    for row, (file, captions) in enumerate(images.items()):
        key = _key(file, used)
        ext = PurePosixPath(file).suffix[1:].lower()
        members = {ext: read_image(folder / file), "txt": captions[0].encode()}
        if several:
            text = json.dumps({"captions": captions}, ensure_ascii=False)
            members["json"] = text.encode()
        parts = tuple(Member(f"{key}.{end}", end, data) for end, data in members.items())
        yield Sample(key, parts, row)


def _key(file: str, used: set[str]) -> str:
    """Return a WebDataset key made of the file's path, new to ``used``, and add it there."""
    plain = plain_key(str(PurePosixPath(file).with_suffix("")))
    key, number = plain, 1
    while key in used:
        number += 1
        key = f"{plain}_{number}"
    used.add(key)
    return key


def _tell(report: FolderReport, out: str) -> None:
    """Log what was left out, and write the whole list beside the shards."""
    lines = []
    for what, found in report.left_out().items():
        if found:
            more = ", ..." if len(found) > _SHOWN else ""
            log.warning("%d %s: %s%s", len(found), what, ", ".join(found[:_SHOWN]), more)
        lines += [f"{what}: {one}\n" for one in found]
    if lines:
        report.listed = out.rstrip("/") + "-left-out.txt"
        storage.write_bytes(report.listed, "".join(lines).encode())
