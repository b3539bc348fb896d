"""How a JPEG is stored: as the input was, but no coarser than a floor."""

import io
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

from PIL import Image, JpegImagePlugin

JPEG_FLOOR = 75
"""A JPEG's tables are never coarser than those of this quality."""

_QUALITIES = (95, 98, 100)


class JpegStyle(NamedTuple):
    """How a lossy file is stored.

    Attributes:
        tables: quantisation tables, 64 values each in rows; none for those of ``quality``.
        quality: 1 to 100, where there are no tables.
        subsampling: 0 is 4:4:4, 1 is 4:2:2, 2 is 4:2:0.
        progressive: whether it is.
    """

    tables: tuple[tuple[int, ...], ...] = ()
    quality: int = _QUALITIES[0]
    subsampling: int = 0
    progressive: bool = False


def style_of(image: Any) -> JpegStyle:
    """Return how a JPEG is stored, as near as the encoder can; 4:1:1 becomes 4:2:0."""
    tables = tuple(tuple(image.quantization[key]) for key in sorted(image.quantization))
    sampling = JpegImagePlugin.get_sampling(image)
    if sampling < 0:
        parts = [layer[1] * layer[2] for layer in image.layer[:3]]
        finest = max(parts) // min(parts)
        sampling = 0 if finest == 1 else 1 if finest == 2 else 2
    return JpegStyle(tables, 0, sampling, bool(image.info.get("progressive")))


def styles_of(own: JpegStyle | None) -> Iterator[JpegStyle]:
    """Yield the ways to store a lossy picture, the smallest file first; the bound decides.

    A JPEG keeps its own tables and subsampling; no table is coarser than at ``JPEG_FLOOR``, where
    a change of 8 levels would be rounded away. Finer ones follow.

    Args:
        own: how the input was stored; None where it was no JPEG, or becomes none.
    """
    if own is not None and own.tables:
        floor = _standard_tables(JPEG_FLOOR)
        tables = [
            tuple(map(min, table, floor[min(place, 1)])) for place, table in enumerate(own.tables)
        ]
        yield own._replace(tables=tuple(tables))
        for finer in (2, 4):
            halved = tuple(tuple(max(1, step // finer) for step in table) for table in tables)
            yield own._replace(tables=halved, subsampling=0)
    for quality in _QUALITIES:
        yield JpegStyle(quality=quality)


@cache
def _standard_tables(quality: int) -> tuple[tuple[int, ...], ...]:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "JPEG", quality=quality)
    with Image.open(buffer) as image:
        found = image.quantization  # type: ignore[attr-defined]
        return tuple(tuple(found[key]) for key in sorted(found))


def save_jpeg(image: Image.Image, buffer: io.BytesIO, style: JpegStyle) -> None:
    """Write a JPEG without metadata."""
    options: dict[str, Any] = {"subsampling": style.subsampling}
    if not style.tables:
        image.save(buffer, "JPEG", quality=style.quality, **options)
        return
    options["qtables"] = [list(table) for table in style.tables]
    try:
        image.save(buffer, "JPEG", progressive=style.progressive, optimize=True, **options)
    except OSError:
        # What needs the whole file at once gets two bytes a pixel; noise in fine steps takes more.
        buffer.seek(0)
        buffer.truncate()
        image.save(buffer, "JPEG", **options)
