"""Training data of each line, decoded at the victim's size and attacked when it is asked for."""

import contextlib
import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..seeds import derive_seed
from .attacks.catalogue import Attack
from .attacks.inputs import Inputs
from .comparisons import Comparison, Step
from .config import EvaluateConfig
from .pairs import ImageAttack, Pairs, Pixels, blocks, load_pairs, with_pixels
from .victim import Augment

_log = logging.getLogger(__name__)

# Attackers act once, on what was published: every victim's seed trains on the same result.
_SEED = 0


class Corpora:
    """Pairs by line: corpora as published, decoded once, and attacked ones until they are released.

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

    def of(self, line: Comparison) -> Pairs:
        """Return what victims of a line train on.

        Raises:
            UsageError: an attack cannot be carried out on this corpus.
        """
        if all(step.attack.kind.stage == "training" for step in line.steps):
            return self.published(line.url)
        if line.label not in self._attacked:
            _log.info("attacking %s: %s", line.corpus, line.attack_label)
            self._attacked[line.label] = self._attack(line)
        return self._attacked[line.label]

    def release(self, line: Comparison) -> None:
        """Delete the pixels of an attacked corpus when no victim needs them any more."""
        pairs = self._attacked.pop(line.label, None)
        if pairs is not None:
            self._delete(pairs)

    def _delete(self, pairs: Pairs) -> None:
        if pairs.path not in {known.path for known in self._published.values()}:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(pairs.path)

    def _attack(self, line: Comparison) -> Pairs:
        """Apply the steps in order; pictures are decoded after the attacks that come first."""
        steps = list(line.steps)
        files = []
        while steps and steps[0].attack.kind.stage == "image":
            files.append(steps.pop(0).attack)
        pairs = (
            self._decode(line.url, image_edit(files, _SEED)) if files else self.published(line.url)
        )
        for step in steps:
            before = pairs
            pairs = self._step(line, step, pairs)
            if pairs.path != before.path:
                self._delete(before)
        return pairs

    def _step(self, line: Comparison, step: Step, pairs: Pairs) -> Pairs:
        attack = step.attack
        stage, run = attack.kind.stage, attack.kind.run
        if stage == "training":
            return pairs
        if stage == "image":
            edit = image_edit([attack], _SEED)
            pixels = (
                np.stack([edit(one, row) for row, one in zip(rows, found, strict=True)])
                for rows, found in blocks(pairs)
            )
            return with_pixels(pairs, self._new_path(), pixels)
        known: dict[str, Any] = {"trigger": step.trigger, "is_rest": line.is_rest}
        if line.clean_url is not None:
            known["clean"] = self.published(line.clean_url)
        value, path = attack.value or 0, self._new_path()
        inputs = Inputs(value, _SEED, path, self._device, self._config.threads, **known)
        if stage == "captions":
            return replace(pairs, captions=run(pairs, inputs))
        attacked: Pairs = run(pairs, inputs)
        return attacked

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


def image_edit(attacks: Sequence[Attack], seed: int) -> ImageAttack:
    """Return the function that applies attacks of the stage ``image`` one after the other.

    It takes uint8 [H, W, 3] and the picture's position in the corpus, which together with ``seed``
    decides all that is random.
    """

    def edit(pixels: Pixels, row: int) -> Pixels:
        image = Image.fromarray(pixels)
        for attack in attacks:
            image = attack.kind.run(
                image, attack.value or 0.0, derive_seed(attack.name, seed, int(row))
            )
        return np.array(image)

    return edit


def augmentation(line: Comparison, size: int) -> Augment | None:
    """Return what each training batch of a line goes through; None where nothing is changed."""
    kinds = [step.attack.kind for step in line.steps if step.attack.kind.stage == "training"]
    changes = [kind.run(size) for kind in kinds]
    if not changes:
        return None

    def augment(images: Tensor) -> Tensor:
        for change in changes:
            images = change(images)
        return images

    return augment
