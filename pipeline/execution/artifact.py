"""The surrogate artifact: ``weights.safetensors`` and ``surrogate.json``, never pickle."""

import hashlib
import json
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from ..data import storage
from ..data.canonical_json import canonical_json
from ..errors import UsageError
from ..method.surrogate import Surrogate
from .spec import package_version

FORMAT = 2
WEIGHTS = "weights.safetensors"
DESCRIPTION = "surrogate.json"
_PRIVATE = "Keep this folder to yourself: its key undoes the protection."
_REMEDY = "fit it again, or copy the folder again from where it was whole"


def _identity(description: dict[str, Any]) -> str:
    return hashlib.sha256(canonical_json(description).encode()).hexdigest()


def save_surrogate(surrogate: Surrogate, url: str) -> str:
    """Write ``surrogate`` to the folder ``url`` and return its sha256.

    The description goes last: a folder without one is no artifact. It holds the key, so that on a
    local disk only its owner can read it.

    Returns:
        sha256 of the canonical description, which holds the sha256 of the weights.
    """
    tensors, meta = surrogate.state()
    weights = save_tensors(
        {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    )
    description = {
        "format": FORMAT,
        "version": package_version(),
        "private": _PRIVATE,
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "surrogate": meta,
    }
    text = json.dumps(description, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    if storage.exists(storage.join(url, DESCRIPTION)):
        storage.remove(storage.join(url, DESCRIPTION))
    storage.write_bytes(storage.join(url, WEIGHTS), weights)
    storage.write_bytes(storage.join(url, DESCRIPTION), text.encode())
    path = storage.local_path(storage.join(url, DESCRIPTION))
    if path is not None:
        path.chmod(0o600)
    return _identity(json.loads(text))


def load_surrogate(url: str) -> tuple[Surrogate, str]:
    """Read the artifact folder ``url`` and check it.

    Returns:
        the surrogate and its sha256.

    Raises:
        UsageError: no artifact, a damaged one, or one of another version.
    """
    description = _read_description(url)
    try:
        weights = storage.read_bytes(storage.join(url, WEIGHTS))
    except FileNotFoundError:
        raise UsageError(f"surrogate {url} is damaged: {WEIGHTS} is missing; {_REMEDY}") from None
    found = hashlib.sha256(weights).hexdigest()
    if found != description["weights_sha256"]:
        raise UsageError(
            f"surrogate {url} is damaged: {WEIGHTS} has sha256 {found}, "
            f"{DESCRIPTION} says {description['weights_sha256']}; {_REMEDY}"
        )
    try:
        surrogate = Surrogate.from_state(load_tensors(weights), description["surrogate"])
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"surrogate {url} cannot be used: {error}; {_REMEDY}") from error
    return surrogate, _identity(description)


def _read_description(url: str) -> dict[str, Any]:
    try:
        text = storage.read_bytes(storage.join(url, DESCRIPTION))
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(
            f"{url} is no surrogate: it has no {DESCRIPTION}; write one with `unlearnable fit`"
        ) from None
    try:
        description: dict[str, Any] = json.loads(text)
        version = description["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"surrogate {url} is damaged: {DESCRIPTION}: {error!r}; {_REMEDY}"
        ) from None
    if version != FORMAT:
        raise UsageError(
            f"surrogate {url} has format {version!r}, written by unlearnable "
            f"{description.get('version')!r}; version {package_version()} reads format {FORMAT}: "
            f"fit it again with this version"
        )
    if not isinstance(description.get("surrogate"), dict) or "weights_sha256" not in description:
        raise UsageError(f"surrogate {url} is damaged: {DESCRIPTION} lacks fields; {_REMEDY}")
    return description
