"""Training data of each row, decoded at the victim's size and attacked when it is asked for."""

from __future__ import annotations

import contextlib
import logging
import os
from dataclasses import replace

import torch

from .attacks.averaging import average, average_leaked
from .attacks.captions import replace_captions, shuffle_words, strip_words
from .attacks.images import image_attack
from .attacks.mixing import rest_of_share, share
from .attacks.purify import purify
from .comparisons import Row
from .config import EvaluateConfig
from .pairs import ImageAttack, Pairs, load_pairs

_log = logging.getLogger(__name__)

# Attackers act once, on what was published: every victim's seed trains on the same result.
_SEED = 0


class Corpora:
    """Pairs by row: corpora as published, decoded once, and attacked ones until they are released.

    Args:
        config: how corpora are read.
        size: side of the square images, pixels.
        folder: where raw files of N * size * size * 3 bytes go.
        device: where attacks that train a network do it.
    """

    def __init__(
        self, config: EvaluateConfig, size: int, folder: str, device: torch.device
    ) -> None:
        self._config, self._size, self._folder, self._device = config, size, folder, device
        self._published: dict[str, Pairs] = {}
        self._attacked: dict[str, Pairs] = {}
        self._files = 0

    def published(self, url: str) -> Pairs:
        """Return the pairs of the shards at ``url`` as they are."""
        if url not in self._published:
            self._published[url] = self._decode(url)
        return self._published[url]

    def of(self, row: Row) -> Pairs:
        """Return what victims of a row train on.

        Raises:
            UsageError: the attack cannot be carried out on this corpus.
        """
        if row.attack is None or row.attack.kind.stage == "training":
            return self.published(row.url)
        if row.label not in self._attacked:
            _log.info("attacking %s: %s", row.corpus, row.attack_label)
            self._attacked[row.label] = self._attack(row)
        return self._attacked[row.label]

    def release(self, row: Row) -> None:
        """Delete the pixels of an attacked corpus when no victim needs them any more."""
        pairs = self._attacked.pop(row.label, None)
        if pairs is not None and pairs.path not in {p.path for p in self._published.values()}:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(pairs.path)

    def _attack(self, row: Row) -> Pairs:
        assert row.attack is not None, "`of` deals with rows as published"
        if row.attack.kind.stage == "image":
            return self._decode(row.url, image_attack(row.attack, _SEED))
        pairs = self.published(row.url)
        if row.attack.kind.stage == "captions":
            return replace(pairs, captions=self._captions(row, pairs))
        return self._pictures(row, pairs)

    def _captions(self, row: Row, pairs: Pairs) -> list[list[str]]:
        if row.trigger is not None:
            return strip_words(pairs, row.trigger.words)
        if row.clean_url is not None:
            return replace_captions(pairs, self.published(row.clean_url))
        return shuffle_words(pairs, _SEED)

    def _pictures(self, row: Row, pairs: Pairs) -> Pairs:
        assert row.attack is not None, "`of` deals with rows as published"
        name, value, path = row.attack.name, row.attack.value or 0, self._new_path()
        known = row.trigger._asdict() if row.trigger is not None else {}
        if row.is_rest:
            return rest_of_share(pairs, value, path, _SEED)
        if row.clean_url is None:
            return average(pairs, path, highpass=name == "average-highpass", **known)
        clean, count = self.published(row.clean_url), round(value)
        if name == "share":
            return share(pairs, clean, value, path, _SEED)
        if name == "average-leaked":
            return average_leaked(pairs, clean, path, count=count, seed=_SEED, **known)
        assert name == "purify", f"no corpus attack {name}"
        threads = self._config.threads
        return purify(
            pairs, clean, path, count=count, seed=_SEED, device=self._device, threads=threads
        )

    def _decode(self, url: str, attack: ImageAttack | None = None) -> Pairs:
        _log.info("decoding %s at %d px", url, self._size)
        return load_pairs(
            url,
            self._size,
            self._new_path(),
            fields=self._config.caption_fields,
            max_pixels=self._config.max_pixels,
            attack=attack,
        )

    def _new_path(self) -> str:
        self._files += 1
        return os.path.join(self._folder, f"{self._files}.raw")
