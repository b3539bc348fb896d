"""CLIP models by name: every open_clip architecture, plus small ones shipped here for CPUs."""

import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...kernels.pgd_step import normalise_pixels
from ..errors import UsageError

if TYPE_CHECKING:
    from open_clip import CLIP

Tokenizer = Callable[[list[str]], Tensor]

# Longer sides of an image, in shorter ones, that are resized.
_LONGEST = 8
_CONFIG_DIR = Path(__file__).parent / "architectures"


@dataclass(frozen=True)
class ModelSpec:
    """What has to be known of a CLIP model to feed it.

    Attributes:
        name: open_clip architecture name, or one shipped here (``tiny``).
        image_size: side of the square model input, pixels.
        context_length: tokens a caption is cut or padded to, start and end token included.
        mean: per-channel mean in [0, 1] pixel space.
        std: per-channel standard deviation in [0, 1] pixel space.
    """

    name: str
    image_size: int
    context_length: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def model_config(name: str) -> dict[str, Any]:
    """Return the open_clip model config called ``name``.

    Raises:
        UsageError: no architecture has that name.
    """
    own = _CONFIG_DIR / f"{name}.json"
    if own.is_file():
        config: dict[str, Any] = json.loads(own.read_text())
        return config
    import open_clip

    found = open_clip.get_model_config(name)
    if found is None:
        raise UsageError(f"no model is called {name!r}; choose tiny or one of open_clip's")
    return dict(found)


def model_spec(
    name: str, *, image_size: int | None = None, context_length: int | None = None
) -> ModelSpec:
    """Describe model ``name``, with its input size or context length replaced where given."""
    from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

    config = model_config(name)
    return ModelSpec(
        name=name,
        image_size=image_size or int(config["vision_cfg"]["image_size"]),
        context_length=context_length or int(config["text_cfg"].get("context_length", 77)),
        mean=OPENAI_DATASET_MEAN,
        std=OPENAI_DATASET_STD,
    )


def build_model(
    name: str,
    *,
    image_size: int | None = None,
    context_length: int | None = None,
    seed: int = 0,
) -> "CLIP":
    """Build an ``open_clip.CLIP`` with random weights drawn from ``seed``.

    The global random state is left as it was.
    """
    import open_clip

    config = deepcopy(model_config(name))
    spec = model_spec(name, image_size=image_size, context_length=context_length)
    config["vision_cfg"]["image_size"] = spec.image_size
    config["text_cfg"]["context_length"] = spec.context_length
    allowed = {
        "embed_dim",
        "vision_cfg",
        "text_cfg",
        "quick_gelu",
        "init_logit_scale",
        "init_logit_bias",
    }
    if set(config) - allowed:
        raise UsageError(
            f"model {name!r} is no plain CLIP (its config has {sorted(set(config) - allowed)})"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return open_clip.CLIP(**config)


@cache
def get_tokenizer(name: str, context_length: int) -> Tokenizer:
    """Return the tokenizer of model ``name``: ``list[str] -> int64 [N, context_length]``.

    Only models that read CLIP's own byte-pair vocabulary are supported: the trigger search needs
    whole-word tokens.
    """
    import open_clip

    text = model_config(name)["text_cfg"]
    if "hf_tokenizer_name" in text or int(text.get("vocab_size", 49408)) != 49408:
        raise UsageError(
            f"model {name!r} does not use CLIP's byte-pair tokenizer; choose one that does"
        )
    tokenizer: Tokenizer = open_clip.SimpleTokenizer(context_length=context_length)
    return tokenizer


def to_model_input(images: Tensor, spec: ModelSpec) -> Tensor:
    """Resize (shorter side, antialiased bicubic), centre-crop and normalise, differentiably.

    Args:
        images: [B, 3, H, W], uint8 or float in 0..255 levels.
        spec: the model that will read the result.

    Returns:
        float32 [B, 3, S, S] with S = ``spec.image_size``, channels last in memory.
    """
    size = spec.image_size
    most = _LONGEST * min(images.shape[-2:])
    skip = [max(0, side - most) // 2 for side in images.shape[-2:]]
    # Of a long strip only the middle is resized: it would take memory by its aspect ratio.
    images = images[..., skip[0] : skip[0] + most, skip[1] : skip[1] + most]
    height, width = images.shape[-2:]
    pixels = images.float()
    if (height, width) != (size, size):
        scale = size / min(height, width)
        new = (max(size, round(height * scale)), max(size, round(width * scale)))
        pixels = F.interpolate(
            pixels, size=new, mode="bicubic", antialias=True, align_corners=False
        )
        top, left = (new[0] - size) // 2, (new[1] - size) // 2
        pixels = pixels[..., top : top + size, left : left + size]
    result = normalise_pixels(pixels, spec.mean, spec.std)
    return result.contiguous(memory_format=torch.channels_last)


def decay_groups(model: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Exempt gains, biases and the temperature from weight decay, as open_clip's trainer does."""
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    return [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
