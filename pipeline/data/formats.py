"""Formats of pictures: told by their first bytes, by their names, and which of them are written."""

import base64
import binascii
import functools
import importlib
import re
import zlib

from ..errors import UsageError
from .jpeg_segments import jpeg_bits

IMAGE_FORMATS = ("png", "webp", "jpeg")
"""What every picture can be written as."""

_WRITTEN = ("png", "webp", "jpeg", "avif")
_EXTS = {
    "png": ("png", "apng"),
    "jpeg": ("jpg", "jpeg", "jpe", "jfif", "jfi", "pjpeg", "pjp", "mpo"),
    "webp": ("webp",),
    "avif": ("avif", "avifs"),
    "bmp": ("bmp", "dib"),
    "gif": ("gif",),
    "tiff": ("tif", "tiff"),
    "ppm": ("ppm", "pgm", "pnm", "pbm"),
    "jpeg2000": ("jp2", "j2k", "j2c", "jpf", "jpx"),
    "heif": ("heic", "heif", "hif"),
    "jxl": ("jxl",),
}
_FORMAT_OF_EXT = {ext: fmt for fmt, exts in _EXTS.items() for ext in exts}
_EXT_OF_FORMAT = {fmt: exts[0] for fmt, exts in _EXTS.items()}

IMAGE_EXTS = frozenset(_FORMAT_OF_EXT)
"""Extensions, in lower case, that say that a file is a picture."""

# Pictures that are not read: raw files of cameras, and formats whose first bytes say nothing.
_OTHER_EXTS = frozenset(
    ("dng", "cr2", "cr3", "crw", "nef", "nrw", "arw", "srf", "sr2", "orf", "rw2", "raf", "pef",
     "srw", "x3f", "mrw", "3fr", "erf", "iiq", "kdc", "tga", "vda", "icb", "vst", "svgz")
)  # fmt: skip

HEAD = 512
"""Bytes of a file that `sniff` looks at."""

_MAGIC = (
    (b"\xff\xd8\xff", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\x8aMNG\r\n\x1a\n", "mng"),
    (b"\x8bJNG\r\n\x1a\n", "jng"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0", "tiff"),
    (b"MM\0+", "tiff"),
    (b"II\xbc", "jxr"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "jpeg2000"),
    (b"\xff\x4f\xff\x51\0", "jpeg2000"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "jxl"),
    (b"\xff\x0a", "jxl"),
    (b"8BPS\0", "psd"),
    (b"qoif", "qoi"),
    (b"\x76\x2f\x31\x01", "exr"),
    (b"#?RADIANCE", "hdr"),
    (b"DDS \x7c\0\0\0", "dds"),
    (b"gimp xcf", "xcf"),
    (b"BPG\xfb", "bpg"),
    (b"icns", "icns"),
    (b"FUJIFILMCCD-RAW", "raf"),
    (b"IIRO", "orf"),
    (b"IIRS", "orf"),
    (b"MMOR", "orf"),
    (b"IIU\0", "rw2"),
    (b"II\x1a\0\0\0HEAPCCDR", "crw"),
    (b"FOVb", "x3f"),
    (b"\0MRM", "mrw"),
    (b"FLIF", "flif"),
    (b"\0\0\0\x0cJXS \r\n\x87\n", "jpegxs"),
    (b"%!PS-Adobe", "eps"),
    (b"\xc5\xd0\xd3\xc6", "eps"),
    (b"%PDF-", "pdf"),
    (b"AT&TFORM", "djvu"),
    (b"\xd7\xcd\xc6\x9a\0\0", "wmf"),
    (b"\x01\xda\0\x01", "sgi"),
    (b"\x01\xda\x01\x01", "sgi"),
    (b"\x59\xa6\x6a\x95", "sun"),
    (b"/* XPM */", "xpm"),
    (b"SIMPLE  = ", "fits"),
    (b"\xabKTX ", "ktx"),
    (b"\x13\xab\xa1\x5c", "astc"),
)
_BRANDS = {b"avif": "avif", b"avis": "avif", b"crx ": "cr3", b"jxl ": "jxl"}
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"mif2")
_PNM = re.compile(rb"P(?:[1-6]\s+(?:#[^\n]*\n\s*)*\d+\s+\d+\s|7\nWIDTH |[fF]\n\d+ \d+\n-?\d)")
_PCX = re.compile(rb"\n[\0\2-\5][\0\1][\1\2\4\x08]", re.DOTALL)
_XBM = re.compile(rb"\s*#define\s+\w+_width\s+\d+\s")
_BASE64 = re.compile(r"\s*[A-Za-z0-9+/\s]{200,}={0,2}\s*")
# How base64 of a JPEG, PNG, GIF, WebP, AVIF or HEIF begins inside other text; JSON may escape "/".
_CODED = re.compile(
    rb"(?<![A-Za-z0-9+/])(?:\\?/9j\\?/|iVBORw0KGgo|R0lGOD[dl]h|UklGR[A-Za-z0-9+/\\]{7,9}RUJQ|"
    rb"AAAA[A-Za-z0-9+/]{2}Z0eXB(?:hdml[mz]|oZWl[jm4]|taWYx|tc2Yx))[A-Za-z0-9+/\\]{80}"
)
_SVG = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:<[?!][^>]*>\s*)*<(?:\w+:)?svg[\s>]", re.IGNORECASE)

_BITMAP_HEADERS = frozenset({12, 16, 40, 52, 56, 64, 108, 124})
_ICONS = (b"\0\0\1\0", b"\0\0\2\0")
_EXTRAS = {"heif": ("heic", "pillow_heif"), "jxl": ("jxl", "pillow_jxl")}
_DECODERS = ("PNG", "JPEG", "WEBP", "AVIF", "BMP", "GIF", "TIFF", "PPM", "JPEG2000")


def sniff(head: bytes) -> str | None:
    """Return the format of the picture that a file starting with ``head`` is; None for no picture.

    Args:
        head: the first ``HEAD`` bytes, or fewer where the file is shorter.
    """
    for magic, fmt in _MAGIC:
        if head.startswith(magic):
            return fmt
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[4:8] == b"ftyp":
        return _of_brands(head)
    # The size of a bitmap's second header is one of few; two letters alone may start a text.
    bitmap = head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BITMAP_HEADERS
    icon = head[:4] in _ICONS and head[5:6] == head[9:10] == b"\0" != head[4:5]
    told = {
        "bmp": bitmap, "ico": icon, "ppm": _PNM.match(head), "svg": _SVG.match(head),
        "pcx": _PCX.match(head), "xbm": _XBM.match(head), "dicom": head[128:132] == b"DICM",
        "emf": head[:4] == b"\1\0\0\0" and head[40:44] == b" EMF",
    }  # fmt: skip
    return next((fmt for fmt, found in told.items() if found), None)


def _of_brands(head: bytes) -> str | None:
    """Return the format of a file of ISO's base media format by its brands; None for a film."""
    size = min(int.from_bytes(head[:4], "big"), len(head))
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, size, 4))]
    for brand in brands:
        if brand in _BRANDS:
            return _BRANDS[brand]
    return "heif" if any(brand in _HEIF_BRANDS for brand in brands) else None


def last_ext(ext: str) -> str:
    """Return the last part of an extension: that of ``left.png`` is ``png``."""
    return ext.rsplit(".", 1)[-1].lower()


def is_picture(ext: str, head: bytes) -> bool:
    """Whether a file of this extension and first bytes is a picture: either may say so.

    The bytes may be packed by gzip or coded in base64.
    """
    named = last_ext(ext) in IMAGE_EXTS or last_ext(ext) in _OTHER_EXTS
    return named or sniff(_unpacked(head)) is not None or is_coded_picture(head.decode("latin-1"))


def _unpacked(head: bytes) -> bytes:
    if not head.startswith(b"\x1f\x8b"):
        return head
    try:
        return zlib.decompressobj(31).decompress(head, HEAD)
    except zlib.error:
        return b""


def is_coded_picture(text: str) -> bool:
    """Whether a text is a picture in base64, also as a data URL."""
    body = text.partition(";base64,")[2] if text[:200].lstrip().startswith("data:") else text
    if not _BASE64.match(body[:4096]):
        return False
    try:
        start = "".join(body[:400].split())
        return sniff(base64.b64decode(start[: len(start) // 4 * 4])) is not None
    except binascii.Error:
        return False


def holds_coded_picture(data: bytes) -> bool:
    """Whether a text holds a picture in base64, such as a field of a JSON document."""
    return _CODED.search(data) is not None


@functools.cache
def decoders() -> tuple[str, ...]:
    """Return Pillow's names of the formats that are read, those of installed extras included."""
    found = list(_DECODERS)
    for name, (_, module) in _EXTRAS.items():
        try:
            plugin = importlib.import_module(module)
        except ImportError:
            continue
        if name == "heif":
            plugin.register_heif_opener(thumbnails=False)
        found.append(name.upper())
    return tuple(found)


def why_unknown(data: bytes) -> tuple[str, str]:
    """Return reason and message for a picture that nothing here reads."""
    fmt = sniff(data[:HEAD])
    if fmt is None and holds_coded_picture(data):
        return "image_unsupported", "a picture in base64 cannot be protected; take it out"
    if fmt is None:
        return "image_undecodable", "the bytes are no picture of a known format"
    extra = _EXTRAS.get(fmt)
    if extra is not None and fmt.upper() not in decoders():
        told = f"a {fmt.upper()} picture needs the extra: pip install 'unlearnable[{extra[0]}]'"
        return "image_unsupported", told
    if fmt == "jpeg" and (bits := jpeg_bits(data)) not in (0, 8):
        return "image_unsupported", f"a JPEG of {bits} bits a channel; store it with 8 bits"
    if fmt.upper() in decoders():
        return "image_undecodable", f"the {fmt.upper()} file is damaged"
    return "image_unsupported", f"{fmt.upper()} pictures are not read; store it as PNG or JPEG"


def written_format(source_format: str, image_format: str) -> str:
    """Return the format in which a picture is published.

    Args:
        source_format: of the input, as `decode` names it.
        image_format: ``png``, ``webp``, ``jpeg``, or ``same``: png, webp, jpeg and avif stay what
            they are, HEIF, a camera's lossy format, becomes jpeg, and the rest becomes png.

    Raises:
        UsageError: an unknown ``image_format``.
    """
    if image_format in IMAGE_FORMATS:
        return image_format
    if image_format != "same":
        raise unknown_format(image_format)
    if source_format == "heif":
        return "jpeg"
    return source_format if source_format in _WRITTEN else "png"


def output_ext(source_ext: str, source_format: str, image_format: str) -> str:
    """Return the extension of a published image; a name that may stay stays.

    Args:
        source_ext: extension of the source member, e.g. ``jpg`` or ``left.png``.
        source_format: its format, as `decode` names it.
        image_format: as for `written_format`.
    """
    wanted = written_format(source_format, image_format)
    last = last_ext(source_ext)
    if wanted == _FORMAT_OF_EXT.get(last) or (image_format == "same" and wanted == source_format):
        return source_ext
    return source_ext[: len(source_ext) - len(last)] + _EXT_OF_FORMAT[wanted]


def format_of_ext(ext: str) -> str:
    """Return the format that an extension names; png for one that names none."""
    return _FORMAT_OF_EXT.get(last_ext(ext), "png")


def unknown_format(name: str) -> UsageError:
    """Return the error for an image format that is none of ours."""
    return UsageError(
        f"unknown image format {name!r}: choose one of {', '.join(IMAGE_FORMATS)} or same"
    )
