"""Protection of images in memory, for notebooks."""

import io
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps
from tqdm.auto import tqdm

from .pipeline.data.images import decode, encode, image_member
from .pipeline.data.limits import MAX_PIXELS
from .pipeline.data.shards import Member, Sample
from .pipeline.errors import UsageError
from .pipeline.execution.artifact import load_surrogate
from .pipeline.execution.checks import choose_device
from .pipeline.execution.spec import RunSpec, package_version
from .pipeline.execution.worker.in_memory import Protected, protect_samples
from .pipeline.method.config import MethodConfig
from .pipeline.method.methods import get_method
from .pipeline.method.protector import settled
from .pipeline.method.surrogate import Surrogate
from .pipeline.plotting import require_matplotlib
from .pipeline.report.figures import GAIN, Comparison, sheet_png
from .pipeline.report.pages import gallery, render

ImageLike = Image.Image | npt.NDArray[np.uint8] | torch.Tensor
Captions = str | Sequence[str]

_FIELD = "captions"
_SHOWN = 6
# What the PNG format holds as it is; the reader of shards knows how to make RGB of these.
_TIFF_MODES = frozenset({"CMYK", "LAB"})
_PNG_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I"})


@dataclass(frozen=True)
class ProtectedImages:
    """Images and captions as they may be published; a notebook shows them beside the originals.

    Attributes:
        images: RGB, of the size of each original; None where a sample is quarantined. Store them
            in a lossless format: JPEG changes pixels by more than the budget.
        captions: as they were given, a text or a list of texts, with the trigger in front; None
            where a sample is quarantined.
        rows: the manifest row of each sample by column, the same columns as in ``manifest/``.
    """

    images: list[Image.Image | None]
    captions: list[str | list[str] | None]
    rows: list[dict[str, Any]]
    _sources: list[bytes] = field(repr=False)

    def __len__(self) -> int:
        return len(self.rows)

    def __str__(self) -> str:
        protected = sum(row["status"] == "protected" for row in self.rows)
        left_out = sorted({row["reason"] for row in self.rows if row["status"] == "quarantined"})
        why = f" ({', '.join(left_out)})" if left_out else ""
        return f"{protected} protected, {len(self) - protected} quarantined{why}"

    def comparisons(self, count: int = _SHOWN) -> list[Comparison]:
        """Return up to ``count`` protected samples, evenly spread, before and after."""
        protected = [i for i, image in enumerate(self.images) if image is not None]
        count = min(count, len(protected))
        places = np.linspace(0, len(protected) - 1, count).round().astype(int)
        return [self._comparison(protected[place]) for place in places]

    def _comparison(self, index: int) -> Comparison:
        texts = self.captions[index]
        assert texts is not None
        return Comparison(
            before=decode(self._sources[index]).pixels,
            after=np.asarray(self.images[index]),
            caption=texts if isinstance(texts, str) else texts[0],
            trigger=self.rows[index]["trigger_text"],
        )

    def _repr_html_(self) -> str:
        shown = gallery(self.comparisons())
        return render("notebook.html.j2", summary=str(self), samples=shown, gain=GAIN)

    def _repr_png_(self) -> bytes | None:
        """Return the contact sheet, or None (a notebook then shows text) without matplotlib."""
        try:
            require_matplotlib()
        except UsageError:
            return None
        shown = self.comparisons()
        return sheet_png(shown) if shown else None


def protect_batch(
    images: Sequence[ImageLike],
    captions: Sequence[Captions],
    surrogate: str | os.PathLike[str] | tuple[Surrogate, str] | None,
    *,
    method: str = "mem",
    epsilon: int = 8,
    steps: int | None = None,
    seed: int = 0,
    batch_size: int = 128,
    device: str = "auto",
    progress: bool = True,
) -> ProtectedImages:
    """Protect images and captions that are in memory, exactly as ``protect`` does in shards.

    Args:
        images: PIL images of any mode; uint8 arrays [H, W, 3] or [H, W]; tensors [3, H, W], uint8
            or floats in [0, 1], which are rounded to 8 bits. Sizes may differ. A whole array
            [N, H, W, 3] or tensor [N, 3, H, W] will do.
        captions: a text or a list of texts for each image.
        surrogate: path or URL of what ``fit`` wrote, or what :func:`load_surrogate` returned;
            None for method ``random``.
        method: ``mem``, or ``random`` noise without triggers as a control.
        epsilon: largest change of a pixel, 8-bit levels, 1 to 64.
        steps: gradient steps in each round of the surrogate; the method's own when None.
        seed: of every random choice; equal input gives equal output.
        batch_size: samples optimised together.
        device: ``auto`` (a GPU where there is one), ``cpu`` or a torch device.
        progress: show a progress bar.

    Raises:
        UsageError: an argument is not as described; the message names it.
    """
    mem = MethodConfig(method=method, epsilon=epsilon, steps=steps)
    loaded, spec = _prepare(surrogate, mem, seed, batch_size)
    if len(images) != len(captions) or not len(images):
        raise UsageError(f"{len(images)} images and {len(captions)} captions; give one for each")
    sources = [_png(image, f"images[{index}]") for index, image in enumerate(images)]
    texts = [_texts(value, f"captions[{index}]") for index, value in enumerate(captions)]
    samples = [
        _sample(index, source, text)
        for index, (source, text) in enumerate(zip(sources, texts, strict=True))
    ]
    found: list[Protected] = []
    with tqdm(total=len(samples), unit="image", desc="protect", disable=not progress) as bar:
        for part in protect_samples(samples, spec, loaded, device=choose_device(device)):
            found += part
            bar.update(len(part))
    return _result(found, captions, sources)


def _prepare(
    surrogate: str | os.PathLike[str] | tuple[Surrogate, str] | None,
    mem: MethodConfig,
    seed: int,
    batch_size: int,
) -> tuple[Surrogate | None, RunSpec]:
    mem.validate()
    if batch_size < 2:
        raise UsageError(f"batch_size is {batch_size}; a contrastive loss needs at least 2")
    loaded: Surrogate | None = None
    sha256 = ""
    if get_method(mem.method).needs_surrogate:
        if surrogate is None:
            raise UsageError("method mem needs a surrogate; write one with unlearnable.fit")
        found = surrogate if isinstance(surrogate, tuple) else load_surrogate(os.fspath(surrogate))
        loaded, sha256 = found
    return loaded, RunSpec(
        mem=settled(mem, loaded),
        batch_size=batch_size,
        trigger_words=loaded.trigger_words if loaded is not None else 0,
        surrogate_sha256=sha256,
        seed=seed,
        image_format="png",
        caption_fields=(_FIELD,),
        max_pixels=MAX_PIXELS,
        torch_threads=1,
        version=package_version(),
        strength=loaded.strength if loaded is not None else "",
        floor=loaded.floor if loaded is not None else 1.0,
    )


def _texts(value: Captions, name: str) -> list[str]:
    texts = [value] if isinstance(value, str) else value
    if (
        not isinstance(texts, Sequence)
        or not texts
        or not all(isinstance(text, str) for text in texts)
    ):
        raise UsageError(f"{name} is neither a text nor a list of texts")
    return list(texts)


def _sample(index: int, source: bytes, texts: list[str]) -> Sample:
    key = f"{index:08d}"
    data = json.dumps({_FIELD: texts}).encode()
    return Sample(
        key, (Member(f"{key}.png", "png", source), Member(f"{key}.json", "json", data)), index
    )


def _result(
    found: list[Protected], captions: Sequence[Captions], sources: list[bytes]
) -> ProtectedImages:
    images: list[Image.Image | None] = []
    texts: list[str | list[str] | None] = []
    for (_, sample), given in zip(found, captions, strict=True):
        if sample is None:
            images.append(None)
            texts.append(None)
            continue
        images.append(Image.fromarray(decode(image_member(sample).data).pixels))
        written: list[str] = json.loads(sample.members[1].data)[_FIELD]
        texts.append(written[0] if isinstance(given, str) else written)
    return ProtectedImages(images, texts, [asdict(row) for row, _ in found], sources)


def _png(image: ImageLike, name: str) -> bytes:
    """Return the PNG file of an image; ``name`` is what a message calls it."""
    if isinstance(image, Image.Image):
        return _png_of_pil(image, name)
    pixels = _of_tensor(image, name) if isinstance(image, torch.Tensor) else np.asarray(image)
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or not pixels.size:
        raise UsageError(
            f"{name} is an array of {pixels.dtype} {list(pixels.shape)}; "
            "give uint8 [H, W, 3] or [H, W]"
        )
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[:, :, None], 3, axis=2)
    if pixels.shape[2] != 3:
        raise UsageError(f"{name} has {pixels.shape[2]} channels in its last dimension, not 3")
    return encode(np.ascontiguousarray(pixels), "png")


def _png_of_pil(image: Image.Image, name: str) -> bytes:
    if image.mode == "F":
        raise UsageError(f"{name} has float pixels, which have no fixed range; give 8-bit ones")
    try:
        upright = ImageOps.exif_transpose(image)
    # Pillow reads pixels only now, and raises many types on a damaged file: the sample is
    # quarantined as one whose file cannot be decoded.
    except Exception:  # noqa: BLE001
        return b""
    buffer = io.BytesIO()
    if upright.mode in _TIFF_MODES:
        upright.save(buffer, "TIFF")
    else:
        rgb = upright if upright.mode in _PNG_MODES else upright.convert("RGB")
        rgb.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _of_tensor(image: torch.Tensor, name: str) -> npt.NDArray[Any]:
    """Return uint8 [H, W, 3] of a tensor [3, H, W]."""
    if image.ndim != 3 or image.shape[0] != 3:
        raise UsageError(f"{name} is a tensor {list(image.shape)}; give [3, H, W]")
    tensor = image.detach().cpu()
    if tensor.is_floating_point():
        if not ((tensor >= 0) & (tensor <= 1)).all():
            raise UsageError(f"{name} has values outside [0, 1]; undo its normalisation first")
        tensor = (tensor.float() * 255).round().to(torch.uint8)
    return tensor.permute(1, 2, 0).numpy()
