"""What an image file says beside its pixels: read, edited, and written into the published file.

Colour profile, PNG's colour chunks, EXIF, XMP, IPTC, comments and PNG texts stay as they came. What
shows the original goes: thumbnails, previews, gain maps, further pictures behind the first.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from ..errors import SampleError
from . import jpeg_segments, photoshop, png_chunks
from .colour import boxed_profile
from .exif import EMBEDDED, edit_exif, value_of
from .packets import passed_over
from .xmp import NO_EDITS, Edits, edit_xmp

NOTES = {
    "gain_map_dropped": "a gain map was dropped: it shows the original",
    "second_picture_dropped": "a further picture in the same file was dropped",
    "thumbnail_dropped": "a thumbnail or preview was dropped: it shows the original",
    "metadata_dropped": "metadata were dropped that are damaged or have no place in the format",
    "credentials_dropped": "content credentials (C2PA) were dropped: they sign the original",
    "location_dropped": "location and device were dropped, as asked",
    "profile_converted": "colours were converted to sRGB by the picture's own profile",
    "cmyk_without_profile": "CMYK without a profile was converted by a plain formula",
    "profile_unusable": "a colour profile does not fit its picture and was dropped",
    "alpha_flattened": "transparency was laid over white: the format has none",
    "sixteen_bit": "more than 8 bits a channel became 8",
    "passed_on": "a file that is neither picture nor text was passed on as it came",
    "caption_elsewhere": "a caption also stands without its trigger in other text or in metadata",
    "no_sample": "a file of the input that belongs to no sample was left out",
    "repeated": "the same picture as in an earlier sample of the shard; its captions belong in one",
}
"""What may be noted of a sample, in words."""

SHOWING = ("gain_map_dropped", "second_picture_dropped", "thumbnail_dropped")
"""What is taken out because it shows the original."""


@dataclass(frozen=True)
class Metadata:
    """Metadata of an image file; a part that is empty is not there.

    Attributes:
        icc: ICC profile that the values are in.
        exif: TIFF structure of the EXIF block.
        xmp: XMP packet.
        irb: Photoshop's image resources, which hold IPTC.
        comment: of a JPEG or GIF; several are lines.
        density: of a JPEG: unit, columns and rows, as its JFIF header has them.
        chunks: type and content of PNG chunks for colour, resolution, time and text.
    """

    icc: bytes = b""
    exif: bytes = b""
    xmp: bytes = b""
    irb: bytes = b""
    comment: bytes = b""
    density: bytes = b""
    chunks: tuple[tuple[bytes, bytes], ...] = ()

    @property
    def texts(self) -> Iterator[str]:
        """What stands in it in words, among other bytes."""
        for part in (self.exif, self.xmp, self.irb, self.comment):
            yield part.decode(errors="replace")
        # Comments and what Windows writes (XPTitle, ...) are in UTF-16.
        for order in ("utf-16-le", "utf-16-be"):
            yield self.exif.decode(order, errors="replace")
        yield from (png_chunks.text_of(*chunk) for chunk in self.chunks)

    @property
    def colour(self) -> tuple[object, ...]:
        """What says what the pixel values mean."""
        return self.icc, tuple(chunk for chunk in self.chunks if chunk[0] in png_chunks.COLOUR)


NOTHING = Metadata()
# Names of gain maps in a JPEG: Apple's, and that of ISO 21496-1.
_GAIN_MAP = re.compile(rb"HDRGainMap|21496:?-1")
# Where boxes of items stand: in front of the picture's data.
_HEADERS = 1 << 18


def read_metadata(image: Image.Image, data: bytes) -> tuple[Metadata, set[str]]:
    """Return the metadata of an opened image as they came, and notes of what was left out.

    Args:
        image: opened, its pixels not necessarily read.
        data: the whole file.
    """
    info = image.info
    found = Metadata(icc=info.get("icc_profile") or boxed_profile(image.format or "", data))
    if image.format in ("JPEG", "MPO"):
        return _read_jpeg(image, data, found)
    if image.format == "PNG":
        return _read_png(data, found)
    if image.format == "TIFF":
        return _read_tiff(image, data, found)
    notes = set()
    if "hdrgainmap" in str(info.get("aux", "")).lower() or _has_tone_map(image, data):
        notes.add("gain_map_dropped")
    if info.get("thumbnails"):
        notes.add("thumbnail_dropped")
    if image.format == "WEBP" and len(data) > 9 + int.from_bytes(data[4:8], "little"):
        notes.add("second_picture_dropped")
    parts, packed = passed_over(image.format or "", data)
    if packed:
        notes.add("metadata_dropped")
    exif = _bytes(info.get("exif")) or parts.get("exif", b"")
    return replace(
        found,
        exif=exif.removeprefix(jpeg_segments.EXIF),
        xmp=_bytes(info.get("xmp")) or parts.get("xmp", b""),
        comment=_bytes(info.get("comment")),
    ), notes


def _has_tone_map(image: Image.Image, data: bytes) -> bool:
    """Whether an AVIF, HEIF or JPEG XL file holds a gain map of ISO 21496-1."""
    named = {"AVIF": b"tmap", "HEIF": b"tmap", "JXL": b"jhgm"}.get(image.format or "")
    return named is not None and named in data[:_HEADERS]


def edited(found: Metadata, edits: Edits = NO_EDITS) -> tuple[Metadata, set[str]]:
    """Return what may be published of ``found``, and notes of what was taken out."""
    exif, notes = edit_exif(found.exif, drop_location=edits.drop_location)
    xmp, more = edit_xmp(found.xmp, edits)
    irb, others = photoshop.edit_irb(found.irb, drop_location=edits.drop_location)
    chunks = tuple(chunk for chunk in found.chunks if not png_chunks.is_picture_text(*chunk))
    if len(chunks) < len(found.chunks):
        notes.add("thumbnail_dropped")
    comment = b"" if EMBEDDED.search(found.comment) else found.comment
    kept = replace(found, exif=exif, xmp=xmp, irb=irb, chunks=chunks, comment=comment)
    return kept, notes | more | others


def published_metadata(
    found: Metadata, fmt: str, edits: Edits = NO_EDITS, *, grey: bool = False
) -> tuple[Metadata, set[str]]:
    """Return what a published file of format ``fmt`` says, and notes of what was taken out.

    Args:
        found: metadata as they came.
        fmt: format of the published file.
        edits: what the run changes.
        grey: whether the picture has one colour channel.

    Raises:
        SampleError: ``colour_unsupported``, when colours would change.
    """
    kept, notes = edited(found, edits)
    kept, lost = _fit_to(kept, fmt, grey=grey)
    return kept, notes | lost


def _fit_to(found: Metadata, fmt: str, *, grey: bool) -> tuple[Metadata, set[str]]:
    if fmt == "png":
        stated = (b"pHYs", png_chunks.pixels_per_metre(found.density))
        added = (stated,) if stated[1] and stated[0] not in dict(found.chunks) else ()
        return replace(found, density=b"", chunks=found.chunks + added), set()
    lost = any(kind in png_chunks.TEXTS for kind, _ in found.chunks)
    icc = found.icc or png_chunks.profile_of(found.chunks)
    if grey and not found.icc and icc:
        raise SampleError(
            "colour_unsupported",
            f"colour chunks of a grey PNG have no place in {fmt}; use --image-format same or png",
        )
    density = found.density or png_chunks.jfif_density(found.chunks)
    kept = replace(found, chunks=(), icc=icc, density=density)
    if fmt == "jpeg":
        short = replace(
            kept, exif=_short(kept.exif), xmp=_short(kept.xmp), comment=_short(kept.comment)
        )
        kept, lost = short, lost or short != kept
    elif kept.irb or kept.comment or kept.density:
        kept, lost = replace(kept, irb=b"", comment=b"", density=b""), True
    return kept, {"metadata_dropped"} if lost else set()


def _short(part: bytes) -> bytes:
    """Return what a single JPEG segment holds, or nothing."""
    return part if len(part) <= jpeg_segments.PIECE else b""


def embed(data: bytes, fmt: str, kept: Metadata) -> bytes:
    """Return a ``png`` or ``jpeg`` file with metadata put in; it has none yet."""
    if kept == NOTHING:
        return data
    if fmt == "png":
        return data[:33] + b"".join(_png_chunks(kept)) + data[33:]
    return jpeg_segments.insert(data, _jpeg_segments(kept), kept.density)


def save_options(kept: Metadata) -> dict[str, bytes]:
    """Return what Pillow's encoders of webp and avif take of metadata."""
    exif = jpeg_segments.EXIF + kept.exif if kept.exif else b""
    options = {"icc_profile": kept.icc, "exif": exif, "xmp": kept.xmp}
    return {name: value for name, value in options.items() if value}


def _bytes(value: object) -> bytes:
    if isinstance(value, str):
        return value.encode(errors="replace")
    return value if isinstance(value, bytes) else b""


def _read_jpeg(image: Any, data: bytes, found: Metadata) -> tuple[Metadata, set[str]]:
    notes, irb, comment = set(), b"", b""
    for marker, content in image.applist:
        if content.startswith(jpeg_segments.EXIF) and not found.exif:
            found = replace(found, exif=content[len(jpeg_segments.EXIF) :])
        elif content.startswith(jpeg_segments.XMP) and not found.xmp:
            found = replace(found, xmp=content[len(jpeg_segments.XMP) :])
        elif content.startswith(jpeg_segments.IRB):
            irb += content[len(jpeg_segments.IRB) :]
        elif marker == "APP0" and content.startswith(jpeg_segments.JFIF):
            found = replace(found, density=jpeg_segments.density_of(content))
        elif marker == "COM":
            comment = b"\n".join(filter(None, (comment, content)))
        elif marker == "APP11" and b"jumb" in content[:64]:
            notes.add("credentials_dropped")
        elif content.startswith(jpeg_segments.EXTENDED):
            notes.add("metadata_dropped")
    if image.format == "MPO" or len(data) > jpeg_segments.jpeg_end(data):
        gain = b"hdr-gain-map" in found.xmp or _GAIN_MAP.search(data) is not None
        notes.add("gain_map_dropped" if gain else "second_picture_dropped")
    return replace(found, irb=irb, comment=comment), notes


def _read_png(data: bytes, found: Metadata) -> tuple[Metadata, set[str]]:
    notes: set[str] = set()
    kept: list[tuple[bytes, bytes]] = []
    parts: dict[str, bytes] = {}
    for kind, content in png_chunks.read_chunks(data):
        if kind == b"eXIf":
            parts.setdefault("exif", content.removeprefix(jpeg_segments.EXIF))
        elif kind in png_chunks.TEXTS and (part := png_chunks.part_of(kind, content)):
            parts.setdefault(*part)
        elif kind in png_chunks.KEPT or kind in png_chunks.TEXTS:
            kept.append((kind, content))
        elif kind == b"caBX":
            notes.add("credentials_dropped")
        elif kind in png_chunks.GAIN_MAP:
            notes.add("gain_map_dropped")
        elif not kind:
            notes.add("second_picture_dropped")
    return replace(found, chunks=tuple(kept), **parts), notes


_IPTC = 33723
_TIFF_TAGS = (
    269, 270, 271, 272, 282, 283, 285, 296, 305, 306, 315, 316, 18246, 18249, 33432,
    40091, 40092, 40093, 40094, 40095,
)  # fmt: skip


def _read_tiff(image: Image.Image, data: bytes, found: Metadata) -> tuple[Metadata, set[str]]:
    """Gather what describes a TIFF, whose EXIF is the file itself."""
    tags, exif = image.getexif(), Image.Exif()
    try:
        exif.update({tag: tags[tag] for tag in _TIFF_TAGS if tag in tags})
        for ifd in (0x8769, 0x8825):
            if values := tags.get_ifd(ifd):
                exif[ifd] = dict(values)
        block = exif.tobytes().removeprefix(jpeg_segments.EXIF) if len(exif) else b""
    except Exception:  # noqa: BLE001 - damaged tags do not make the picture unusable
        return found, {"metadata_dropped"}
    # IPTC is often typed as numbers of 32 bits, of which Pillow keeps the first.
    irb = _bytes(tags.get(34377))
    iptc = value_of(data, _IPTC) if _IPTC in tags else b""
    if iptc and b"8BIM\x04\x04" not in irb:
        irb += photoshop.resource(photoshop.IPTC, b"\0\0", iptc)
    return replace(found, exif=block, xmp=_bytes(tags.get(700)), irb=irb), set()


def _png_chunks(kept: Metadata) -> Iterator[bytes]:
    if kept.icc:
        yield png_chunks.icc_chunk(kept.icc)
    for kind, content in kept.chunks:
        yield png_chunks.chunk(kind, content)
    if kept.exif:
        yield png_chunks.chunk(b"eXIf", kept.exif)
    if kept.xmp:
        yield png_chunks.xmp_chunk(kept.xmp)
    if kept.irb:
        yield png_chunks.raw_chunk(kept.irb)
    if kept.comment:
        yield png_chunks.chunk(b"tEXt", b"Comment\0" + kept.comment.replace(b"\0", b" "))


def _jpeg_segments(kept: Metadata) -> Iterator[bytes]:
    if kept.exif:
        yield jpeg_segments.segment(0xE1, jpeg_segments.EXIF + kept.exif)
    if kept.xmp:
        yield jpeg_segments.segment(0xE1, jpeg_segments.XMP + kept.xmp)
    for piece in jpeg_segments.in_pieces(kept.irb):
        yield jpeg_segments.segment(0xED, jpeg_segments.IRB + piece)
    pieces = jpeg_segments.in_pieces(kept.icc)
    for number, piece in enumerate(pieces, 1):
        head = b"ICC_PROFILE\0" + bytes((number, len(pieces)))
        yield jpeg_segments.segment(0xE2, head + piece)
    if kept.comment:
        yield jpeg_segments.segment(0xFE, kept.comment)
