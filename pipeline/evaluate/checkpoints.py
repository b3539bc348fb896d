"""What a victim starts from and what is left of it: weights in files, never run as code."""

import hashlib
import pickle
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save

from ..data import storage
from ..errors import UsageError

_BLOCK = 1 << 20


def checkpoint_digest(url: str) -> str:
    """Return the sha256 of the file at ``url``. Raises UsageError when it cannot be read."""
    digest = hashlib.sha256()
    try:
        with storage.open_read(url) as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    except OSError as error:
        raise UsageError(
            f"init {url} cannot be read ({error}); give a .safetensors or .pt file of weights"
        ) from error
    return digest.hexdigest()


def load_weights(model: torch.nn.Module, url: str) -> None:
    """Load a checkpoint of open_clip, or one that :func:`save_weights` wrote, into ``model``.

    Position embeddings are resized to the model's context length, and those of vision transformers
    to its image size. A pickle is only read as tensors (``weights_only``).

    Raises:
        UsageError: the file cannot be read, or holds the weights of another architecture.
    """
    import open_clip

    path = storage.local_path(url)
    with tempfile.TemporaryDirectory(prefix="unlearnable-init-") as folder:
        if path is None:
            path = Path(folder) / storage.base_name(url)
            path.write_bytes(storage.read_bytes(url))
        try:
            open_clip.load_checkpoint(model, str(path), weights_only=True)
        except (RuntimeError, KeyError, AttributeError, StopIteration) as error:
            raise UsageError(_mismatch(url, error)) from error
        except (OSError, SafetensorError, pickle.UnpicklingError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UsageError(
                f"init {url} is no file of weights ({reason}); give .safetensors, or a .pt that "
                "holds nothing but tensors"
            ) from error


def _mismatch(url: str, error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = lines[1] if len(lines) > 1 else str(error)
    return (
        f"init {url} does not fit the model: {reason[:160]}; give --model and --image-size "
        "those that it was made with"
    )


def save_weights(model: torch.nn.Module, url: str) -> None:
    """Write the model's weights to ``url`` as safetensors, whole or not at all."""
    state: dict[str, Any] = model.state_dict()
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
    storage.make_folder(url.rpartition("/")[0])
    storage.write_bytes(url, save(tensors))
