"""EXIF edited in place: what stays keeps its bytes and its place, so that maker notes stay valid.

Layout after CIPA DC-008 (Exif 3.0), sections 4.5 and 4.6.
"""

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 129: 1}
_ORIENTATION, _GPS_IFD = 0x0112, 0x8825
_IFDS = frozenset({0x8769, _GPS_IFD, 0xA005})
# Make, model, host computer, maker note, camera's and lens's names and serial numbers, unique id.
_DEVICE = frozenset(
    {0x010F, 0x0110, 0x013C, 0x927C, 0xA431, 0xA432, 0xA433, 0xA434, 0xA435, 0xA420, 0xC614, 0xC62F}
)
# Further pictures: strips and tiles, sub-IFDs, JPEG data, and where raw files keep previews.
_PICTURES = frozenset({0x0111, 0x0117, 0x014A, 0x0144, 0x0145, 0x0201, 0x0202, 0x002E, 0xC634})
_MOST_ENTRIES = 1 << 10
EMBEDDED = re.compile(rb"\xff\xd8\xff[\xc0-\xcf\xdb\xdd\xe0-\xef\xfe]|\x89PNG\r\n\x1a\n")
"""How a picture inside other bytes begins."""


class _Entry(NamedTuple):
    """An entry of an IFD: where it stands, its tag, and where its value lies."""

    at: int
    tag: int
    start: int
    end: int


class _Tiff:
    """The bytes of an EXIF block; raises ValueError or struct.error where they make no sense."""

    def __init__(self, data: bytes) -> None:
        self.data = bytearray(data)
        self.order = {b"II": "<", b"MM": ">"}.get(data[:2], "")
        if not self.order or self.number("H", 2) != 42:
            raise ValueError("no TIFF header")
        self.first = self.number("I", 4)
        self.used = 8

    def number(self, kind: str, at: int) -> int:
        return int(struct.unpack_from(self.order + kind, self.data, at)[0])

    def put(self, kind: str, at: int, value: int) -> None:
        struct.pack_into(self.order + kind, self.data, at, value)

    def entries(self, ifd: int) -> list[_Entry]:
        count = self.number("H", ifd)
        if count > _MOST_ENTRIES or ifd < 8:
            raise ValueError(f"an IFD of {count} entries at {ifd}")
        self.number("I", ifd + 2 + 12 * count)
        return [self._entry(ifd + 2 + 12 * row) for row in range(count)]

    def _entry(self, at: int) -> _Entry:
        size = _SIZES.get(self.number("H", at + 2), 1) * self.number("I", at + 4)
        start = at + 8 if size <= 4 else self.number("I", at + 8)
        if start + size > len(self.data):
            raise ValueError("a value beyond the end")
        return _Entry(at, self.number("H", at), start, start + size)

    def wipe(self, start: int, end: int) -> None:
        end = min(end, len(self.data))
        self.data[start:end] = bytes(max(0, end - start))

    def remove(self, ifd: int, entry: _Entry) -> None:
        """Take an entry out with its value; those behind it move up."""
        self.wipe(entry.start, entry.end)
        end = ifd + 6 + 12 * self.number("H", ifd)
        self.data[entry.at : end] = self.data[entry.at + 12 : end] + bytes(12)
        self.put("H", ifd, self.number("H", ifd) - 1)

    def wipe_ifd(self, ifd: int) -> None:
        entries = self.entries(ifd)
        values = {entry.tag: self.number("I", entry.at + 8) for entry in entries}
        self.wipe(values.get(0x0201, 0), values.get(0x0201, 0) + values.get(0x0202, 0))
        for entry in entries:
            self.wipe(entry.start, entry.end)
        self.wipe(ifd, ifd + 6 + 12 * len(entries))

    def ifds(self) -> Iterator[int]:
        """Yield IFD 0 and those that it names, each once."""
        waiting, seen = [self.first], set()
        while waiting:
            ifd = waiting.pop()
            if ifd in seen:
                continue
            seen.add(ifd)
            yield ifd
            named = (entry for entry in self.entries(ifd) if entry.tag in _IFDS)
            waiting.extend(self.number("I", entry.at + 8) for entry in named)

    def end(self) -> int:
        """Return where the last kept byte ends."""
        last = 8
        for ifd in self.ifds():
            entries = self.entries(ifd)
            last = max(last, ifd + 6 + 12 * len(entries), *(entry.end for entry in entries))
        return last


def value_of(data: bytes, tag: int) -> bytes:
    """Return a tag's value in the first IFD of a TIFF file as its bytes stand; empty for none."""
    try:
        tiff = _Tiff(data)
        found = next(entry for entry in tiff.entries(tiff.first) if entry.tag == tag)
    except (ValueError, struct.error, StopIteration):
        return b""
    return bytes(tiff.data[found.start : found.end])


def edit_exif(data: bytes, *, drop_location: bool = False) -> tuple[bytes, set[str]]:
    """Return EXIF without thumbnails and previews, upright, and what was taken out.

    Args:
        data: the TIFF structure, without the mark in front of it.
        drop_location: take out GPS, and what names the device, too.

    Returns:
        the edited bytes, empty when they cannot be understood, and names of notes.
    """
    if not data:
        return b"", set()
    try:
        tiff = _Tiff(data)
        notes = _drop_thumbnails(tiff)
        # Those that an IFD names come before it: it may take them out.
        for ifd in reversed(list(tiff.ifds())):
            notes |= _clean(tiff, ifd, drop_location=drop_location)
        return bytes(tiff.data[: tiff.end()]), notes
    except (ValueError, struct.error):
        return b"", {"metadata_dropped"}


def _drop_thumbnails(tiff: _Tiff) -> set[str]:
    """Wipe the IFDs behind the first one, which hold thumbnails."""
    at = tiff.first + 2 + 12 * len(tiff.entries(tiff.first))
    following, seen = tiff.number("I", at), {tiff.first}
    tiff.put("I", at, 0)
    notes = set()
    while following and following not in seen:
        seen.add(following)
        notes.add("thumbnail_dropped")
        try:
            behind = tiff.number("I", following + 2 + 12 * len(tiff.entries(following)))
        except (ValueError, struct.error):
            break
        tiff.wipe_ifd(following)
        following = behind
    return notes


def _clean(tiff: _Tiff, ifd: int, *, drop_location: bool) -> set[str]:
    """Take out of one IFD what may not stay."""
    notes: set[str] = set()
    # From the last on: removing one moves those behind it.
    for entry in reversed(tiff.entries(ifd)):
        if entry.tag == _ORIENTATION:
            tiff.put("H", entry.at + 8, 1)
        elif entry.tag in _PICTURES or EMBEDDED.search(tiff.data[entry.start : entry.end]):
            tiff.remove(ifd, entry)
            notes.add("thumbnail_dropped")
        elif drop_location and (entry.tag == _GPS_IFD or entry.tag in _DEVICE):
            if entry.tag == _GPS_IFD:
                tiff.wipe_ifd(tiff.number("I", entry.at + 8))
            tiff.remove(ifd, entry)
            notes.add("location_dropped")
    return notes
