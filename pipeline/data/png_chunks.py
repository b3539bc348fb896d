"""Chunks of PNG files: colour, texts, and what stands for metadata of other formats."""

import struct
import zlib
from collections.abc import Iterator, Sequence

from .exif import EMBEDDED
from .formats import is_coded_picture
from .jpeg_segments import RATIO
from .profiles import PRIMARIES, SRGB_CURVE, numbered_profile, rgb_profile

COLOUR = (b"cICP", b"gAMA", b"cHRM", b"sRGB", b"mDCV", b"cLLI")
"""Types of the chunks that say what pixel values mean."""

KEPT = (*COLOUR, b"pHYs", b"tIME")
TEXTS = (b"tEXt", b"zTXt", b"iTXt")
GAIN_MAP = (b"gmAP", b"gdAT")

_XMP_KEYWORD = b"XML:com.adobe.xmp"
_RAW = b"Raw profile type "
_PREFIXES = (b"Exif\0\0", b"Photoshop 3.0\0", b"http://ns.adobe.com/xap/1.0/\0")
_MOST_TEXT = 4 << 20
_SRGB_GAMMA = range(45_000, 46_000)


def read_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield type and content of the chunks of a PNG, and what follows its end as ``b""``."""
    at = 8
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        if size > len(data) - at:
            return
        yield kind, b"" if kind == b"IDAT" else data[at + 8 : at + 8 + size]
        at += size + 12
        if kind == b"IEND":
            if rest := data[at:].strip(b"\0\r\n"):
                yield b"", rest
            return


def _text_of(kind: bytes, content: bytes) -> tuple[bytes, bytes]:
    """Return keyword and text of a text chunk. Raises ValueError or zlib.error."""
    keyword, _, rest = content.partition(b"\0")
    packed = kind == b"zTXt"
    if kind == b"iTXt":
        packed = rest[:1] == b"\1"
        rest = rest[2:].split(b"\0", 2)[2]
    elif packed:
        rest = rest[1:]
    if not packed:
        return keyword, rest
    unpacked = zlib.decompressobj()
    text = unpacked.decompress(rest, _MOST_TEXT)
    if unpacked.unconsumed_tail:
        raise ValueError("a text that is too large when it is unpacked")
    return keyword, text


def part_of(kind: bytes, content: bytes) -> tuple[str, bytes] | None:
    """Return the field and bytes that a text chunk stands for; None for a text."""
    try:
        keyword, text = _text_of(kind, content)
        if keyword == _XMP_KEYWORD:
            return "xmp", text
        if not keyword.startswith(_RAW):
            return None
        name = keyword.removeprefix(_RAW).lower()
        raw = bytes.fromhex(b"".join(text.split()[2:]).decode())
    except (ValueError, IndexError, zlib.error):
        return None
    field = {b"exif": "exif", b"xmp": "xmp", b"iptc": "irb", b"8bim": "irb"}.get(name)
    if name == b"app1":
        field = "xmp" if raw.startswith(b"http") else "exif"
    for prefix in _PREFIXES:
        raw = raw.removeprefix(prefix)
    return (field, raw) if field else None


def text_of(kind: bytes, content: bytes) -> str:
    """Return what a text chunk says; nothing where it cannot be read."""
    try:
        return _text_of(kind, content)[1].decode(errors="replace") if kind in TEXTS else ""
    except (ValueError, IndexError, zlib.error):
        return ""


def is_picture_text(kind: bytes, content: bytes) -> bool:
    """Whether a chunk is a text that holds a picture, or one that cannot be looked into."""
    if kind not in TEXTS:
        return False
    try:
        text = _text_of(kind, content)[1]
    except (ValueError, IndexError, zlib.error):
        return True
    return EMBEDDED.search(text) is not None or is_coded_picture(text.decode("latin-1"))


def profile_of(chunks: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Return what colour chunks say as an ICC profile; empty for sRGB.

    Raises:
        SampleError: ``colour_unsupported``, for HDR and for primaries that span no colour space.
    """
    found = dict(chunks)
    if stated := found.get(b"cICP", b""):
        return numbered_profile(stated[0], stated[1] if len(stated) > 1 else 2)
    if b"sRGB" in found:
        return b""
    primaries, curve = PRIMARIES[1], SRGB_CURVE
    gamma = int.from_bytes(found.get(b"gAMA", b""), "big")
    if gamma and gamma not in _SRGB_GAMMA:
        curve = (100_000 / gamma,)
    if len(stated := found.get(b"cHRM", b"")) == 32:
        whole = struct.unpack(">8I", stated)
        if any(abs(a - b * 100_000) > 200 for a, b in zip(whole, primaries, strict=True)):
            primaries = tuple(part / 100_000 for part in whole)
    if (primaries, curve) == (PRIMARIES[1], SRGB_CURVE):
        return b""
    return rgb_profile(primaries, curve)


# Pixels of a metre by JFIF's units: inches and centimetres.
_A_METRE = {1: 1 / 0.0254, 2: 100.0}


def pixels_per_metre(density: bytes) -> bytes:
    """Return a JFIF density as the content of a pHYs chunk; empty for an empty one."""
    if not density:
        return b""
    unit, *sides = RATIO.unpack(density)
    return struct.pack(">2IB", *(round(s * _A_METRE.get(unit, 1)) for s in sides), unit in _A_METRE)


def jfif_density(chunks: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Return what a pHYs chunk says as a JFIF density; empty where there is none or no room."""
    stated = dict(chunks).get(b"pHYs", b"")
    if len(stated) != 9:
        return b""
    across, down, metric = struct.unpack(">2IB", stated)
    sides = [round(side * 0.0254) if metric else side for side in (across, down)]
    return RATIO.pack(bool(metric), *sides) if all(0 < s < 1 << 16 for s in sides) else b""


def chunk(kind: bytes, content: bytes) -> bytes:
    """Return a chunk as it stands in a file."""
    body = kind + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def xmp_chunk(packet: bytes) -> bytes:
    """Return an XMP packet as a chunk."""
    return chunk(b"iTXt", _XMP_KEYWORD + bytes(5) + packet)


def raw_chunk(resources: bytes) -> bytes:
    """Return Photoshop's resources as the text chunk that ImageMagick and ExifTool know."""
    raw = b"\n8bim\n%8d\n%s\n" % (len(resources), resources.hex().encode())
    return chunk(b"zTXt", _RAW + b"8bim\0\0" + zlib.compress(raw, 9))


def icc_chunk(profile: bytes) -> bytes:
    """Return an ICC profile as a chunk."""
    return chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(profile, 9))
