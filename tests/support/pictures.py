"""Picture files of every kind for tests: profiles, chunks, metadata, a folder with captions."""

from __future__ import annotations

import csv
import io
import struct
import zlib
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

XMP = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" {spaces} {own}>'
    "<dc:rights><rdf:Alt><rdf:li>(c) Ada</rdf:li></rdf:Alt></dc:rights>{more}"
    '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)


def saved(image: Image.Image, fmt: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, fmt, **options)
    return buffer.getvalue()


def xmp(own: str = "", more: str = "", spaces: str = "") -> bytes:
    return XMP.format(own=own, more=more, spaces=spaces).encode()


def png_chunk(kind: bytes, content: bytes) -> bytes:
    body = kind + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def png_with(pixels: np.ndarray, *chunks: tuple[bytes, bytes]) -> bytes:
    data = saved(Image.fromarray(pixels), "PNG")
    return data[:33] + b"".join(png_chunk(*chunk) for chunk in chunks) + data[33:]


def jpeg_with(pixels: np.ndarray, *segments: tuple[int, bytes], **options: object) -> bytes:
    data = saved(Image.fromarray(pixels), "JPEG", **options)
    parts = (bytes((0xFF, m)) + struct.pack(">H", len(c) + 2) + c for m, c in segments)
    return data[:20] + b"".join(parts) + data[20:]


def iptc(**sets: bytes) -> bytes:
    """Return Photoshop resources with IPTC data sets, such as ``n110=b"Ada"``."""
    records = b"".join(
        b"\x1c\2" + bytes([int(name[1:])]) + struct.pack(">H", len(value)) + value
        for name, value in sets.items()
    )
    padded = records + bytes(len(records) % 2)
    return b"8BIM\x04\x04\0\0" + struct.pack(">I", len(records)) + padded


def _profile(space: bytes, kind: bytes, pcs: bytes, tags: dict[bytes, bytes]) -> bytes:
    """Assemble an ICC profile of version 2."""
    at, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for name, content in tags.items():
        table += name + struct.pack(">II", at + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    size = at + len(body)
    head = struct.pack(">I4sI4s4s4s", size, b"test", 0x02100000, kind, space, pcs)
    head += bytes(12) + b"acsp" + bytes(28) + struct.pack(">III", 0xF6D6, 0x10000, 0xD32D)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def _described(tags: dict[bytes, bytes]) -> dict[bytes, bytes]:
    text = b"text\0\0\0\0" + b"test\0"
    desc = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + bytes(78)
    return {b"desc": desc, b"cprt": text} | tags


def _xyz(*values: float) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))


def _gamma(value: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(value * 256))


@cache
def p3_profile() -> bytes:
    """Display P3's primaries, gamma 2.2."""
    curve = _gamma(2.2)
    tags = {
        b"wtpt": _xyz(0.9642, 1, 0.8249), b"rXYZ": _xyz(0.5151, 0.2412, -0.0011),
        b"gXYZ": _xyz(0.2920, 0.6922, 0.0419), b"bXYZ": _xyz(0.1571, 0.0666, 0.7841),
        b"rTRC": curve, b"gTRC": curve, b"bTRC": curve,
    }  # fmt: skip
    return _profile(b"RGB ", b"mntr", b"XYZ ", _described(tags))


@cache
def grey_profile(gamma: float) -> bytes:
    tags = {b"wtpt": _xyz(0.9642, 1, 0.8249), b"kTRC": _gamma(gamma)}
    return _profile(b"GRAY", b"mntr", b"XYZ ", _described(tags))


@cache
def cmyk_profile(black: int = 0) -> bytes:
    """Inks of odd colours, as a table of 2 x 2 x 2 x 2 points to Lab; ``black`` has 255 levels."""
    lab = bytearray()
    for point in range(16):
        c, m, y, k = ((point >> shift) & 1 for shift in (3, 2, 1, 0))
        light = 255 * (1 - 0.3 * c - 0.2 * m - 0.1 * y) * (1 - k)
        a, b = 128 + 60 * c - 60 * m, 128 + 60 * y - 30 * c
        lab += bytes((round(max(black, light)), round(a), round(b)))
    linear = bytes(range(256))
    matrix = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    lut = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + matrix + linear * 4 + bytes(lab) + linear * 3
    tags = {b"wtpt": _xyz(0.9642, 1, 0.8249), b"A2B0": lut}
    profile = _profile(b"CMYK", b"prtr", b"Lab ", _described(tags))
    ImageCms.ImageCmsProfile(io.BytesIO(profile))
    return profile


COLOURS = ("red", "green", "blue", "white", "black", "yellow", "brown", "orange")
THINGS = ("house", "river", "table")


def write_captioned(folder: Path) -> Path:
    """Write 24 noise pictures of 80 x 64 pixels and their ``captions.csv`` into a new folder."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    with (folder / "captions.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "caption"])
        for colour in COLOURS:
            for thing in THINGS:
                pixels = generator.integers(0, 256, (64, 80, 3), np.uint8)
                Image.fromarray(pixels).save(folder / f"{colour}-{thing}.png")
                table.writerow([f"{colour}-{thing}.png", f"a {colour} {thing} on a hill"])
    return folder
