"""Image files to 8-bit RGB arrays and back, without trusting what a file says about itself."""

import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from ..errors import SampleError
from .colour import to_rgb
from .formats import (
    IMAGE_FORMATS,
    decoders,
    format_of_ext,
    output_ext,
    unknown_format,
    why_unknown,
    written_format,
)
from .jpeg import JPEG_FLOOR, JpegStyle, save_jpeg, style_of, styles_of
from .limits import LONGEST, MAX_PIXELS
from .members import Member
from .metadata import NOTHING, Metadata, embed, published_metadata, read_metadata, save_options
from .png import encode_png
from .shards import Sample

__all__ = [
    "IMAGE_FORMATS", "Decoded", "JpegStyle", "Pixels", "budget_of", "budget_policy",
    "converted", "decode",
    "encode", "fit_square", "format_of_ext", "image_member",
    "image_members", "output_ext", "replace_image",
    "written_format",
]  # fmt: skip

Pixels = npt.NDArray[np.uint8]

# What the decoded file of a lossy format may differ by beyond epsilon, in levels.
JPEG_SLACK = 24
_LOSSY = ("jpeg", "avif")
_MAX_SIDE = {"png": 2**31 - 1, "webp": 16383, "jpeg": 65500, "avif": 65536}
_EXIF_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Decoded:
    """A picture as it was read.

    Attributes:
        values: uint8 [H, W, 3], RGB, upright; where it is transparent, what lies beneath.
        source_format: png, jpeg, webp, avif, gif, ...
        alpha: uint8 [H, W], 255 where it is opaque; None for a picture without.
        grey: whether it has one colour channel.
        kept: its metadata as they came; the profile is that of ``values``.
        jpeg: how a JPEG was stored.
        notes: what was changed or left out in reading, names of `metadata.NOTES`.
    """

    values: Pixels
    source_format: str
    alpha: Pixels | None = None
    grey: bool = False
    kept: Metadata = NOTHING
    jpeg: JpegStyle | None = None
    notes: frozenset[str] = frozenset()

    @cached_property
    def pixels(self) -> Pixels:
        """The picture over white, uint8 [H, W, 3]."""
        if self.alpha is None:
            return self.values
        above = Image.fromarray(np.dstack([self.values, self.alpha]))
        white = Image.new("RGBA", above.size, "white")
        return np.array(Image.alpha_composite(white, above).convert("RGB"))

    def styles(self, fmt: str) -> Iterator[JpegStyle]:
        """Yield the ways to store the picture as ``fmt``, the smallest file first."""
        if fmt in _LOSSY:
            yield from styles_of(self.jpeg if fmt == "jpeg" else None)
        else:
            yield JpegStyle()

    def notes_in(self, fmt: str) -> frozenset[str]:
        """Return what is noted of a picture that is stored as ``fmt``."""
        flat = fmt == "jpeg" and self.alpha is not None and bool(self.alpha.min() < 255)
        return self.notes | {"alpha_flattened"} if flat else self.notes

    def in_channels(self, pixels: Pixels, fmt: str) -> Pixels:
        """Return values [H, W, 3] in the channels of a ``fmt`` file: grey as one, alpha behind."""
        colour = pixels[..., 0] if self.grey else pixels
        if self.alpha is None or fmt == "jpeg":
            return colour
        return np.dstack([colour, self.alpha])

    def for_format(self, fmt: str) -> Pixels:
        """Return what is protected of a picture that is stored as ``fmt``, uint8 [H, W, 3]."""
        return self.pixels if fmt == "jpeg" else self.values


def image_members(sample: Sample) -> list[Member]:
    """Return the images of a sample, told by names and by bytes; at least one.

    Raises:
        SampleError: ``missing_image``, or the sample's own ``problem``.
    """
    sample.check()
    images = [member for member in sample.members if member.is_picture]
    if not images:
        exts = ", ".join(member.ext for member in sample.members) or "nothing"
        raise SampleError("missing_image", f"{sample.key}: no image among its members ({exts})")
    return images


def image_member(sample: Sample, *, several: bool = False) -> Member:
    """Return the one image of a sample, or with ``several`` the first.

    Raises:
        SampleError: as :func:`image_members`, and ``several_images`` (only one would be protected,
            and the others would be published as they are).
    """
    images = image_members(sample)
    if len(images) > 1 and not several:
        names = ", ".join(member.name for member in images)
        raise SampleError(
            "several_images",
            f"{sample.key}: {len(images)} images ({names}); a sample may hold one, or use "
            f"--images all",
        )
    return images[0]


def decode(data: bytes, max_pixels: int = MAX_PIXELS) -> Decoded:
    """Decode an image file to upright 8-bit RGB and what belongs to it.

    Grey and palette images become RGB; CMYK, Lab and grey ones with a profile become sRGB; of 16
    bits the high byte is kept; EXIF orientation is applied. The size is checked before any pixel is
    decoded.

    Raises:
        SampleError: ``image_undecodable``, ``image_too_large``, ``image_animated``,
            ``image_unsupported``.
    """
    try:
        with Image.open(io.BytesIO(data), formats=decoders()) as image:
            _check_declared(image, max_pixels)
            image.load()
            return _decoded(image, data)
    except (SampleError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise SampleError(*why_unknown(data)) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise SampleError("image_too_large", f"the image is too large ({error})") from error
    # Pillow's decoders raise many unrelated types on damaged files.
    except Exception as error:
        raise SampleError("image_undecodable", f"the image cannot be decoded ({error})") from error


def _decoded(image: Image.Image, data: bytes) -> Decoded:
    kept, notes = read_metadata(image, data)
    found = to_rgb(image, data, kept.icc)
    turn = _UPRIGHT.get(_orientation(image))
    upright = [
        part if part is None or turn is None else part.transpose(turn)
        for part in (found.rgb, found.alpha)
    ]
    # A JPEG with an embedded second picture is one photograph to Pillow's format MPO.
    source_format = "jpeg" if image.format == "MPO" else (image.format or "").lower()
    return Decoded(
        np.array(upright[0]),
        source_format,
        None if upright[1] is None else np.array(upright[1]),
        found.grey,
        replace(kept, icc=found.icc),
        style_of(image) if source_format == "jpeg" else None,
        frozenset(notes | found.notes),
    )


def encode(
    pixels: Pixels, fmt: str, style: JpegStyle | None = None, kept: Metadata = NOTHING
) -> bytes:
    """Encode an image as ``png``, ``webp`` (lossless), ``jpeg`` or ``avif``.

    Equal arguments give equal bytes.

    Args:
        pixels: uint8 [H, W, 3]; [H, W] for grey; [H, W, 2] and [H, W, 4] with alpha as the last.
        fmt: format.
        style: how a lossy file is stored.
        kept: metadata that go into the file.

    Raises:
        SampleError: ``image_too_large`` for the format.
        UsageError: an unknown format.
    """
    if fmt not in _MAX_SIDE:
        raise unknown_format(fmt)
    if max(pixels.shape[:2]) > _MAX_SIDE[fmt]:
        raise SampleError(
            "image_too_large",
            f"{fmt} holds at most {_MAX_SIDE[fmt]} pixels a side, not {pixels.shape[:2]}",
        )
    if fmt == "png":
        return embed(encode_png(pixels), fmt, kept)
    image, buffer, style = Image.fromarray(pixels), io.BytesIO(), style or JpegStyle()
    if fmt == "jpeg":
        save_jpeg(image, buffer, style)
    else:
        options: dict[str, Any] = dict(save_options(kept))
        if fmt == "webp":
            options |= {"lossless": True, "quality": 50, "method": 2, "exact": True}
        else:
            options |= {"quality": style.quality, "subsampling": "4:4:4", "speed": 8}
        image.save(buffer, fmt.upper(), **options)
        return buffer.getvalue()
    return embed(buffer.getvalue(), fmt, kept)


def converted(found: Decoded, fmt: str) -> bytes:
    """Return a picture as a file of another format, with colours, rights and transparency.

    Raises:
        SampleError: the format has no place for it.
    """
    kept, _ = published_metadata(found.kept, fmt, grey=found.grey)
    return encode(found.in_channels(found.for_format(fmt), fmt), fmt, None, kept)


def fit_square(pixels: Pixels, size: int) -> Pixels:
    """Resize the shorter side of uint8 [H, W, 3] to ``size`` (antialiased bicubic), crop it.

    This is open_clip's evaluation transform; a picture that already has the size is left as it is.
    Of a long strip only the middle is resized: it would take memory by its aspect ratio.
    """
    height, width = pixels.shape[:2]
    if (height, width) == (size, size):
        return pixels
    if (most := LONGEST * min(height, width)) < max(height, width):
        top, left = max(0, height - most) // 2, max(0, width - most) // 2
        pixels = pixels[top : top + most, left : left + most]
        height, width = pixels.shape[:2]
    scale = size / min(height, width)
    new_width, new_height = max(size, round(width * scale)), max(size, round(height * scale))
    image = Image.fromarray(pixels)
    resized = np.asarray(image.resize((new_width, new_height), Image.Resampling.BICUBIC))
    top, left = (new_height - size) // 2, (new_width - size) // 2
    return np.ascontiguousarray(resized[top : top + size, left : left + size])


def budget_of(fmt: str, epsilon: int) -> int:
    """Return how far a pixel of the decoded published file may be from the decoded input, levels.

    PNG and lossless WebP keep every pixel, so epsilon holds for the file. JPEG and AVIF round in
    blocks: epsilon bounds what is encoded, and the decoded file gets ``JPEG_SLACK`` levels more.
    """
    return epsilon + JPEG_SLACK if fmt in _LOSSY else epsilon


def budget_policy(epsilon: int, floor: float = 1.0) -> str:
    """Return :func:`budget_of` in words, for manifests and cards.

    Args:
        epsilon: largest change of a pixel, 8-bit levels.
        floor: share of it that smooth ground gets; 1 where every pixel gets all of it.
    """
    least = max(1, round(floor * epsilon))
    smooth = f"smooth mid-grey ground changes by at most {least}; " if floor < 1 else ""
    return (
        f"{smooth}"
        f"linf, l2, psnr and ssim compare the decoded published file with the decoded input file; "
        f"png and webp (lossless): linf <= {epsilon}; jpeg and avif: the picture that is encoded "
        f"differs by at most {epsilon}, and the decoded file by linf <= "
        f"{budget_of('jpeg', epsilon)}; a jpeg keeps the quantisation tables and subsampling that "
        f"it came with, but none coarser than at quality {JPEG_FLOOR}, and gets finer ones where "
        f"that is not enough"
    )


def replace_image(
    members: tuple[Member, ...], source: Member, data: bytes, ext: str
) -> tuple[Member, ...]:
    """Return ``members`` with ``data`` under the extension ``ext`` in place of ``source``."""
    stem = source.name[: len(source.name) - len(source.ext)]
    name = source.name if ext == source.ext else stem + ext
    return tuple(Member(name, ext, data) if member is source else member for member in members)


def _check_declared(image: Image.Image, max_pixels: int) -> None:
    if image.width * image.height > max_pixels:
        raise SampleError(
            "image_too_large",
            f"{image.width}x{image.height} pixels, more than the allowed {max_pixels}",
        )
    # A JPEG with an embedded second picture (format MPO) is one photograph, not an animation.
    if image.format != "MPO" and getattr(image, "is_animated", False):
        raise SampleError(
            "image_animated", "the image has several frames; only still images can be protected"
        )


def _orientation(image: Image.Image) -> int:
    try:
        found = image.getexif().get(_EXIF_ORIENTATION)
    except Exception:  # noqa: BLE001 - damaged EXIF does not make the picture unusable
        return 1
    return found if isinstance(found, int) else 1
