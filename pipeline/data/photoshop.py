"""Photoshop's image resources (8BIM), in which JPEG and TIFF files hold IPTC records.

Layout after Adobe's file format specification, "Image Resources Section", and IPTC IIM 4.2.
"""

import struct

from .exif import EMBEDDED

IPTC = 1028
"""Number of the resource that holds IPTC records."""

# Thumbnails, and copies of EXIF and XMP.
_THUMBNAILS, _COPIES = frozenset({1033, 1036}), frozenset({1058, 1059, 1060})
_IPTC_PLACES = frozenset({26, 27, 90, 92, 95, 100, 101})
_SIGNATURES = (b"8BIM", b"PHUT", b"DCSR", b"AgHg", b"MeSa")


def resource(number: int, name: bytes, content: bytes) -> bytes:
    """Return a resource as it stands in a file; ``name`` is a Pascal string of even length."""
    head = b"8BIM" + struct.pack(">H", number) + name
    return head + struct.pack(">I", len(content)) + content + bytes(len(content) % 2)


def edit_irb(data: bytes, *, drop_location: bool) -> tuple[bytes, set[str]]:
    """Return image resources without thumbnails, and on request without places."""
    kept, at = b"", 0
    notes: set[str] = set()
    while at + 11 < len(data):
        if data[at : at + 4] not in _SIGNATURES:
            return kept, notes | {"metadata_dropped"}
        number = int.from_bytes(data[at + 4 : at + 6], "big")
        start = at + 6 + (data[at + 6] + 2) // 2 * 2
        end = start + 4 + int.from_bytes(data[start : start + 4], "big")
        content, following = data[start + 4 : end], end + (end - start) % 2
        if end > len(data):
            return kept, notes | {"metadata_dropped"}
        if number in _THUMBNAILS or EMBEDDED.search(content):
            notes.add("thumbnail_dropped")
        elif number in _COPIES:
            pass
        elif drop_location and number == IPTC and (less := _less_iptc(content)) != content:
            kept += resource(number, data[at + 6 : start], less)
            notes.add("location_dropped")
        else:
            kept += data[at:following]
        at = following
    return kept, notes


def _less_iptc(content: bytes) -> bytes:
    """Return IPTC records without the data sets that name a place."""
    kept, at = b"", 0
    while at + 5 <= len(content) and content[at] == 0x1C:
        end = at + 5 + int.from_bytes(content[at + 3 : at + 5], "big")
        if content[at + 1] != 2 or content[at + 2] not in _IPTC_PLACES:
            kept += content[at:end]
        at = end
    return kept + content[at:]
