"""Templates and the pictures inside them: whatever a page shows travels in the page itself."""

import base64
import io
from functools import cache
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from ..data.captions import without_trigger
from ..data.images import Pixels
from .figures import Comparison

_SIDE = 320


@cache
def _environment() -> Environment:
    # Keys, captions and reasons come from strangers' shards: escaping is never off.
    return Environment(
        loader=PackageLoader(__package__), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip


def render(template: str, **values: Any) -> str:
    """Return the page that ``template`` makes of ``values``."""
    return _environment().get_template(template).render(**values)


def picture(pixels: Pixels, side: int = _SIDE) -> str:
    """Return a ``data:`` URL of uint8 [H, W, 3], the longer side at most ``side`` pixels."""
    image = Image.fromarray(pixels)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return data_url(buffer.getvalue(), "image/png")


def data_url(data: bytes, kind: str) -> str:
    """Return ``data`` as a URL that needs no network."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def gallery(shown: list[Comparison]) -> list[dict[str, Any]]:
    """Return what a template shows of each sample: three pictures, trigger and the caption."""
    return [
        {
            "before": picture(sample.before),
            "after": picture(sample.after),
            "difference": picture(sample.difference()),
            "trigger": sample.trigger,
            "caption": without_trigger(sample.caption, sample.trigger),
            "size": f"{sample.before.shape[1]} x {sample.before.shape[0]}",
            "flip": "" if sample.flip is None else f", FLIP {sample.flip:.3f}",
            "largest": int(np.abs(sample.after.astype(int) - sample.before.astype(int)).max()),
        }
        for sample in shown
    ]
