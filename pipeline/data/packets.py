"""XMP packets and EXIF blocks in formats where Pillow passes them over."""

import struct
from collections.abc import Iterator

# XMP specification, part 3: the packet is followed by a trailer that leads a GIF reader out of it.
_GIF_START, _GIF_END = b"\x21\xff\x0bXMP DataXMP", b"\x01\xff\xfe\xfd"
_UUIDS = {
    bytes.fromhex("be7acfcb97a942e89c71999491e3afac"): "xmp",
    b"JpgTiffExif->JP2": "exif",
}
_PACKED = b"brob"


def passed_over(fmt: str, data: bytes) -> tuple[dict[str, bytes], bool]:
    """Return the ``xmp`` and ``exif`` of a file, and whether there are some that cannot be read.

    Args:
        fmt: GIF, JPEG2000 or JXL; other formats give nothing.
        data: the whole file.
    """
    if fmt == "GIF":
        _, start, rest = data.partition(_GIF_START)
        packet, end, _ = rest.partition(_GIF_END)
        return ({"xmp": packet} if start and end else {}), False
    parts: dict[str, bytes] = {}
    packed = False
    for kind, content in _boxes(data) if fmt in ("JPEG2000", "JXL") else ():
        if kind == b"uuid" and (name := _UUIDS.get(content[:16])):
            parts.setdefault(name, content[16:])
        elif kind == b"xml " and fmt == "JXL":
            parts.setdefault("xmp", content)
        packed |= kind == _PACKED and content[:4] in (b"xml ", b"Exif")
    return parts, packed


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield type and content of the boxes of a file of ISO's base media format."""
    at = 0
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        head = 8
        if size == 1 and at + 16 <= len(data):
            (size,), head = struct.unpack_from(">Q", data, at + 8), 16
        end = at + size if size else len(data)
        if end < at + head or end > len(data):
            return
        yield kind, data[at + head : end]
        at = end
