"""Where an interrupted fit stands: one file beside the artifact that it will write."""

import hashlib
import io
import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..data import storage
from ..data.canonical_json import canonical_json
from ..method.rounds import State
from .spec import package_version

log = logging.getLogger(__name__)

NAME = "_fit.pt"
_FORMAT = 2


class Checkpoint:
    """The file ``_fit.pt`` in the folder of a surrogate, read without running what it holds.

    Args:
        url: folder of the artifact.
        images: uint8 [N, 3, S, S].
        captions: of each image.
        settings: everything else that decides the fit.
    """

    def __init__(
        self,
        url: str,
        images: Tensor,
        captions: Sequence[Sequence[str]],
        settings: dict[str, Any],
    ) -> None:
        self._url = storage.join(url, NAME)
        known = {
            "format": _FORMAT,
            "settings": settings,
            "captions": captions,
            "version": package_version(),
        }
        digest = hashlib.sha256(canonical_json(known).encode())
        digest.update(images.numpy().tobytes())
        self._identity = digest.hexdigest()

    def load(self) -> State | None:
        """Return the state of this very fit; None where there is none, or another one's."""
        try:
            data = storage.read_bytes(self._url)
            found = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
            identity, state = found["identity"], dict(found["state"])
            rounds = len(state["curve"])
        except FileNotFoundError:
            return None
        # A damaged archive ends torch.load in many ways; whatever it is, the fit can begin anew.
        except Exception as error:  # noqa: BLE001
            log.warning("%s cannot be read (%s); the fit begins anew", self._url, error)
            return None
        if identity != self._identity:
            log.info("%s is of another fit, which this one replaces", self._url)
            return None
        log.info("%s: %d rounds of the fit are behind it", self._url, rounds)
        return state

    def save(self, state: State) -> None:
        """Write the state, whole or not at all."""
        buffer = io.BytesIO()
        torch.save({"identity": self._identity, "state": state}, buffer)
        storage.make_folder(self._url.rpartition("/")[0])
        storage.write_bytes(self._url, buffer.getvalue())

    def remove(self) -> None:
        """Delete the file, when the artifact is written."""
        storage.remove(self._url)
