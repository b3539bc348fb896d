"""Segments of JPEG files, and the tables that their pixels were stored with."""

import re
import struct
from collections.abc import Iterator

EXIF, XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
EXTENDED, IRB = b"http://ns.adobe.com/xmp/extension/\0", b"Photoshop 3.0\0"
JFIF = b"JFIF\0"
PIECE = 65_400
"""Bytes of metadata that a segment takes."""

# Unit, columns and rows of pixels a unit; without a unit they are an aspect ratio.
RATIO = struct.Struct(">BHH")
_SQUARE = RATIO.pack(0, 1, 1)
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")


def jpeg_end(data: bytes) -> int:
    """Return where a JPEG ends, so that what follows is none of it; fill bytes are passed over."""
    at, size = 2, len(data)
    while at + 4 <= size and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xD9:
            end = at + 2
            return size if not data[end:].strip(b"\0\xff") else end
        if marker == 0xFF or 0xD0 <= marker <= 0xD8 or marker == 1:
            at += 1 if marker == 0xFF else 2
            continue
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xDA:
            following = _MARKER.search(data, at)
            at = following.start() if following else size
    return size


def jpeg_bits(data: bytes) -> int:
    """Return the bits of a channel that the header of a JPEG states; 0 where it states none."""
    at = 2
    while at + 5 <= len(data) and data[at] == 0xFF:
        if data[at + 1] in _FRAMES:
            return data[at + 4]
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return 0


def density_of(header: bytes) -> bytes:
    """Return unit, columns and rows of a JFIF header; nothing where it states none."""
    found = header[7:12]
    return b"" if len(found) < 5 or found == _SQUARE or not all(RATIO.unpack(found)[1:]) else found


def insert(data: bytes, segments: Iterator[bytes], density: bytes = b"") -> bytes:
    """Return a JPEG with segments put in behind its JFIF header, which states ``density``."""
    if data[2:4] != b"\xff\xe0":
        return data[:2] + b"".join(segments) + data[2:]
    at = 4 + int.from_bytes(data[4:6], "big")
    stated = data[:13] + density + data[13 + len(density) : at]
    return stated + b"".join(segments) + data[at:]


def in_pieces(content: bytes) -> list[bytes]:
    """Return what does not fit into one segment in pieces that do."""
    return [content[at : at + PIECE] for at in range(0, len(content), PIECE)]


def segment(marker: int, content: bytes) -> bytes:
    """Return a segment as it stands in a file."""
    return bytes((0xFF, marker)) + struct.pack(">H", len(content) + 2) + content
