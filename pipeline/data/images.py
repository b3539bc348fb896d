"""Image files to 8-bit RGB arrays and back, without trusting what a file says about itself."""

import io
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..errors import SampleError, UsageError
from .limits import LONGEST, MAX_PIXELS
from .members import IMAGE_EXTS, Member, last_ext
from .png import encode_png
from .shards import Sample

Pixels = npt.NDArray[np.uint8]

IMAGE_FORMATS = ("png", "webp", "jpeg")
_FORMAT_OF_EXT = {"png": "png", "webp": "webp", "jpg": "jpeg", "jpeg": "jpeg", "jpe": "jpeg"}
_EXT_OF_FORMAT = {"png": "png", "webp": "webp", "jpeg": "jpg"}
_DECODERS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
# The qualities that a published JPEG is tried at, and the levels that its decoded file may differ
# beyond epsilon.
JPEG_QUALITIES = (95, 98, 100)
JPEG_SLACK = 16
_MAX_SIDE = {"png": 2**31 - 1, "webp": 16383, "jpeg": 65500}
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


class Decoded(NamedTuple):
    """``pixels``: uint8 [H, W, 3], RGB, upright. ``source_format``: png, jpeg, webp, gif, ..."""

    pixels: Pixels
    source_format: str


def image_member(sample: Sample) -> Member:
    """Return the one image of a sample.

    Raises:
        SampleError: ``missing_image``, ``several_images`` (only one could be protected, and the
            others would be published as they are), or the sample's own ``problem``.
    """
    sample.check()
    images = [member for member in sample.members if last_ext(member.ext) in IMAGE_EXTS]
    if not images:
        exts = ", ".join(member.ext for member in sample.members) or "nothing"
        raise SampleError("missing_image", f"{sample.key}: no image among its members ({exts})")
    if len(images) > 1:
        names = ", ".join(member.name for member in images)
        raise SampleError(
            "several_images", f"{sample.key}: {len(images)} images ({names}); a sample may hold one"
        )
    return images[0]


def decode(data: bytes, max_pixels: int = MAX_PIXELS) -> Decoded:
    """Decode an image file to upright 8-bit RGB.

    Alpha is laid over white; grey, palette, CMYK and 16-bit images are converted (16 bits keep the
    high byte); EXIF orientation is applied. The size is checked before any pixel is decoded.

    Raises:
        SampleError: ``image_undecodable``, ``image_too_large``, ``image_animated``,
            ``image_unsupported``.
    """
    try:
        with Image.open(io.BytesIO(data), formats=_DECODERS) as image:
            _check_declared(image, max_pixels)
            image.load()
            upright = _turn(_to_rgb(image), _orientation(image))
            # A JPEG with an embedded second picture is one photograph to Pillow's format MPO.
            source_format = "jpeg" if image.format == "MPO" else (image.format or "").lower()
            return Decoded(np.array(upright), source_format)
    except (SampleError, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise SampleError("image_too_large", f"the image is too large ({error})") from error
    # Pillow's decoders raise many unrelated types on damaged files.
    except Exception as error:
        raise SampleError("image_undecodable", f"the image cannot be decoded ({error})") from error


def encode(pixels: Pixels, fmt: str, quality: int = JPEG_QUALITIES[0]) -> bytes:
    """Encode uint8 [H, W, 3] as ``png``, ``webp`` (lossless) or ``jpeg`` (4:4:4).

    Equal pixels give equal bytes; no metadata is written. ``quality`` is that of a JPEG.

    Raises:
        SampleError: ``image_too_large`` for the format.
        UsageError: an unknown format.
    """
    if fmt not in IMAGE_FORMATS:
        raise _unknown_format(fmt)
    if max(pixels.shape[:2]) > _MAX_SIDE[fmt]:
        raise SampleError(
            "image_too_large",
            f"{fmt} holds at most {_MAX_SIDE[fmt]} pixels a side, not {pixels.shape[:2]}",
        )
    if fmt == "png":
        return encode_png(pixels)
    image, buffer = Image.fromarray(pixels), io.BytesIO()
    if fmt == "webp":
        image.save(buffer, "WEBP", lossless=True, quality=50, method=2)
    else:
        image.save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()


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


def output_ext(source_ext: str, image_format: str) -> str:
    """Return the extension of a published image.

    Args:
        source_ext: extension of the source member, e.g. ``jpg`` or ``left.png``.
        image_format: ``png``, ``webp``, ``jpeg``, or ``same``, which keeps what can be written
            again and turns the rest (gif, bmp, tiff, ...) into png.
    """
    if image_format not in (*IMAGE_FORMATS, "same"):
        raise _unknown_format(image_format)
    current = _FORMAT_OF_EXT.get(last_ext(source_ext))
    wanted = (current or "png") if image_format == "same" else image_format
    if wanted == current:
        return source_ext
    return source_ext[: len(source_ext) - len(last_ext(source_ext))] + _EXT_OF_FORMAT[wanted]


def format_of_ext(ext: str) -> str:
    """Return the format that :func:`encode` writes for an extension from :func:`output_ext`."""
    return _FORMAT_OF_EXT[last_ext(ext)]


def budget_of(fmt: str, epsilon: int) -> int:
    """Return how far a pixel of the decoded published file may be from the decoded input, levels.

    PNG and lossless WebP keep every pixel, so epsilon holds for the file. A JPEG rounds in blocks:
    there epsilon bounds what is encoded, and the decoded file gets ``JPEG_SLACK`` levels more.
    """
    return epsilon + JPEG_SLACK if fmt == "jpeg" else epsilon


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
        f"png and webp (lossless): linf <= {epsilon}; jpeg: the picture that is encoded differs by "
        f"at most {epsilon}, it is stored 4:4:4 at the first quality of "
        f"{', '.join(map(str, JPEG_QUALITIES))} that gives linf <= {budget_of('jpeg', epsilon)}"
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


def _orientation(image: Image.Image) -> object:
    try:
        return image.getexif().get(_EXIF_ORIENTATION)
    except Exception:  # noqa: BLE001 - damaged EXIF does not make the picture unusable
        return None


def _turn(image: Image.Image, orientation: object) -> Image.Image:
    method = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return image if method is None else image.transpose(method)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        image = Image.fromarray(
            (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
        )
    if image.mode in ("I", "F"):
        raise SampleError(
            "image_unsupported",
            f"pixels of mode {image.mode} have no fixed range; store them with 8 bits",
        )
    if image.has_transparency_data:
        above = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", above.size, "white"), above).convert("RGB")
    return image.convert("RGB")


def _unknown_format(name: str) -> UsageError:
    return UsageError(
        f"unknown image format {name!r}: choose one of {', '.join(IMAGE_FORMATS)} or same"
    )
