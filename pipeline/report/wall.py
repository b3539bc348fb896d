"""Pictures beside their copies at their own size, where an eye can judge what it sees."""

import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..data.images import Pixels
from ..plotting import INK, TRIGGER

# Screen pixels: the largest part of a picture that is shown, and the narrowest column for a text.
_SIDE, _NARROW = 448, 224
_GAP, _SIZE, _LINE = 14, 14, 18
_LINES_OF_TEXT = 6


@dataclass(frozen=True)
class Line:
    """One sample.

    Attributes:
        pictures: uint8 [H, W, 3] each: the original, then its copies.
        caption: as it came.
        trigger: the words that stand in front of it in the copies; empty where there are none.
    """

    pictures: Sequence[Pixels]
    caption: str
    trigger: str


def wall_png(titles: Sequence[str], lines: Sequence[Line]) -> bytes:
    """Return a PNG with one line a sample: each picture at 100 %, then its middle at 200 %.

    Args:
        titles: of the columns.
        lines: at least one.
    """
    widths = [_part(picture, _SIDE).shape[1] for line in lines for picture in line.pictures]
    column = max(_NARROW, *widths) + _GAP
    heights = [_height(line) for line in lines]
    size = (_GAP + column * len(titles), 2 * _GAP + _LINE + sum(heights))
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(_SIZE)
    for place, title in enumerate(titles):
        draw.text((_GAP + column * place, _GAP), title, INK, font)
    top = 2 * _GAP + _LINE
    for line, height in zip(lines, heights, strict=True):
        for place, picture in enumerate(line.pictures):
            left = _GAP + column * place
            below = _paste(sheet, picture, left, top)
            words = line.trigger if place else ""
            _write(draw, font, (left, below), column - _GAP, words, line.caption)
        top += height
    data = io.BytesIO()
    sheet.save(data, "png")
    return data.getvalue()


def _part(picture: Pixels, side: int) -> Pixels:
    """Cut the middle of at most ``side`` pixels out of a picture."""
    top, left = (max(0, (length - side) // 2) for length in picture.shape[:2])
    return picture[top : top + side, left : left + side]


def _zoomed(picture: Pixels) -> Pixels:
    side = max(1, min(_SIDE, max(picture.shape[:2])) // 2)
    return _part(picture, side).repeat(2, 0).repeat(2, 1)


def _height(line: Line) -> int:
    parts = [_part(line.pictures[0], _SIDE), _zoomed(line.pictures[0])]
    return sum(len(part) + _GAP for part in parts) + _LINES_OF_TEXT * _LINE + _GAP


def _paste(sheet: Image.Image, picture: Pixels, left: int, top: int) -> int:
    """Put a picture and its enlarged middle on the sheet; return where the free space begins."""
    for part in (_part(picture, _SIDE), _zoomed(picture)):
        sheet.paste(Image.fromarray(np.ascontiguousarray(part)), (left, top))
        top += len(part) + _GAP
    return top


def _write(
    draw: ImageDraw.ImageDraw,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    at: tuple[int, int],
    width: int,
    words: str,
    caption: str,
) -> None:
    """Write the trigger, then the caption, in a column of ``width`` pixels."""
    left, top = at
    room = max(1, width // 8)
    texts = [(text, TRIGGER) for text in textwrap.wrap(words, room)]
    texts += [(text, INK) for text in textwrap.wrap(caption, room)]
    for text, colour in texts[:_LINES_OF_TEXT]:
        draw.text((left, top), text, colour, font)
        top += _LINE
