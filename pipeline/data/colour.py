"""Pixels of any mode to 8-bit RGB, by what the file says that its values mean."""

import io
import re
from typing import NamedTuple

from PIL import Image, ImageCms

from ..errors import SampleError
from .depth import high_byte, is_deep
from .profiles import numbered_profile

_GREY = frozenset({"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N"})
_SPACES = {"CMYK": b"CMYK", "LAB": b"Lab "}
# Where boxes of colour stand: in front of the picture's data.
_HEADERS = 1 << 18
_NAMED = re.compile(rb"colrnclx(..)(..)", re.DOTALL)
# The colour types of a PNG that has grey alone, with and without alpha.
_PNG_GREY = (0, 4)


class Converted(NamedTuple):
    """``rgb`` and ``alpha`` (or None) of an image; ``grey``: it has one colour channel.

    ``icc``: the profile that ``rgb`` is in, empty for none. ``notes``: what was done, for people.
    """

    rgb: Image.Image
    alpha: Image.Image | None
    grey: bool
    icc: bytes
    notes: set[str]


def boxed_profile(fmt: str, data: bytes) -> bytes:
    """Return what a colour box says that Pillow passes over, as an ICC profile; empty for sRGB.

    Raises:
        SampleError: ``colour_unsupported``, for primaries and curves, named by number, of HDR.
    """
    if fmt == "JPEG2000":
        at = data.find(b"colr", 0, _HEADERS)
        size = int.from_bytes(data[max(at - 4, 0) : max(at, 0)], "big")
        return data[at + 7 : at - 4 + size] if at > 0 and data[at + 4 : at + 5] == b"\2" else b""
    named = _NAMED.search(data, 0, _HEADERS) if fmt in ("AVIF", "HEIF") else None
    if named is None:
        return b""
    return numbered_profile(*(int.from_bytes(part, "big") for part in named.groups()))


def to_rgb(image: Image.Image, data: bytes, icc: bytes) -> Converted:
    """Convert a loaded image of the file ``data`` with the profile ``icc``, empty for none.

    An RGB profile stays with the values. CMYK, YCCK, Lab and grey values are converted to sRGB by
    their own profile; without one by Pillow's formula. 16 bits keep the high byte.

    Raises:
        SampleError: ``image_unsupported``, for values without a fixed range.
    """
    notes = {"sixteen_bit"} if is_deep(image, data) else set()
    # Pillow reads grey of 16 bits with alpha as RGBA.
    grey = image.mode in _GREY or (image.format == "PNG" and data[25] in _PNG_GREY)
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        flat = high_byte(image)
        notes.add("sixteen_bit")
    elif image.mode in ("I", "F"):
        raise SampleError(
            "image_unsupported",
            f"pixels of mode {image.mode} have no fixed range; store them with 8 bits",
        )
    else:
        flat = image
    alpha = flat.convert("RGBA").getchannel("A") if flat.has_transparency_data else None
    space = icc[16:20]
    if flat.mode in _SPACES or (grey and space == b"GRAY"):
        return _by_profile(flat, icc, alpha, notes, grey=grey)
    if icc and space != b"RGB ":
        icc = b""
        notes.add("profile_unusable")
    plain = flat if alpha is None else flat.convert("RGBA")
    return Converted(
        plain if plain.mode == "RGB" else plain.convert("RGB"), alpha, grey, icc, notes
    )


def _by_profile(
    image: Image.Image, icc: bytes, alpha: Image.Image | None, notes: set[str], *, grey: bool
) -> Converted:
    flat = image.convert("L") if grey else image
    wanted = b"GRAY" if grey else _SPACES[image.mode]
    try:
        if icc and icc[16:20] == wanted:
            source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        elif wanted == b"Lab ":
            source = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
        else:
            return Converted(flat.convert("RGB"), alpha, grey, b"", notes | _why(icc))
        srgb = ImageCms.createProfile("sRGB")
        # Like browsers: a profile's black stays as light as the profile says.
        intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
        found = ImageCms.profileToProfile(flat, source, srgb, intent, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return Converted(flat.convert("RGB"), alpha, grey, b"", notes | {"profile_unusable"})
    assert found is not None
    if grey:
        # The colours of a grey axis differ by a rounding at most.
        found = found.getchannel("G").convert("RGB")
    return Converted(found, alpha, grey, b"", notes | {"profile_converted"})


def _why(icc: bytes) -> set[str]:
    return {"cmyk_without_profile", "profile_unusable"} if icc else {"cmyk_without_profile"}
