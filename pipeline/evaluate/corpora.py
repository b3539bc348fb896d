"""Training data of each line, decoded at the victim's size and attacked when it is asked for."""

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
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
from .pairs import ImageAttack, Pairs, Pixels, blocks, load_pairs, pictures, with_pixels
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
        self._attacked: dict[tuple[str, int], Pairs] = {}
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
            return self._read(self.published(line.url))
        key = (line.label, line.copy)
        if key not in self._attacked:
            _log.info("attacking %s: %s", line.corpus, line.attack_label)
            self._attacked[key] = self._attack(line)
        return self._read(self._attacked[key])

    def _read(self, pairs: Pairs) -> Pairs:
        """Keep as many captions of each image as victims read."""
        count = self._config.captions
        if count is None:
            return pairs
        return replace(pairs, captions=[texts[:count] for texts in pairs.captions])

    def release(self, line: Comparison) -> None:
        """Delete the pixels of an attacked corpus when no victim needs them any more."""
        pairs = self._attacked.pop((line.label, line.copy), None)
        if pairs is not None:
            self._delete(pairs)

    def _delete(self, pairs: Pairs) -> None:
        if pairs.path not in {known.path for known in self._published.values()}:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(pairs.path)

    def _attack(self, line: Comparison) -> Pairs:
        """Apply the steps in order; pictures are decoded after the attacks that come first."""
        steps = list(line.steps)
        edits: list[ImageAttack] = []

        def files() -> Iterator[Pixels]:
            found = enumerate(pictures(line.url, self._config.max_pixels))
            return (_edited(pixels, edits, row) for row, pixels in found)

        while steps and steps[0].attack.kind.stage in ("image", "survey"):
            edits = [*edits, self._edit(line, steps.pop(0), files)]
        pairs = self.published(line.url)
        if edits:
            pairs = self._decode(line.url, lambda pixels, row: _edited(pixels, edits, row))
        for step in steps:
            before = pairs
            pairs = self._step(line, step, pairs)
            if pairs.path != before.path:
                self._delete(before)
        return pairs

    def _edit(
        self, line: Comparison, step: Step, files: Callable[[], Iterator[Pixels]]
    ) -> ImageAttack:
        """Return what an attack does to one picture; one that surveys the copy sees ``files``."""
        if step.attack.kind.stage == "image":
            return image_edit(step.attack, _SEED)
        change = step.attack.kind.run(self._inputs(line, step, files))

        def edit(pixels: Pixels, row: int) -> Pixels:
            seed = derive_seed(step.attack.name, _SEED, int(row))
            return np.array(change(Image.fromarray(pixels), seed))

        return edit

    def _inputs(
        self, line: Comparison, step: Step, files: Callable[[], Iterator[Pixels]] | None = None
    ) -> Inputs:
        known: dict[str, Any] = {"trigger": step.trigger, "is_rest": line.is_rest}
        if line.clean_url is not None:
            known["clean"] = self.published(line.clean_url)
        if files is not None:
            known["published"] = lambda: map(Image.fromarray, files())
        if line.own_url is not None:
            own = line.own_url
            known["own"] = lambda: map(Image.fromarray, pictures(own, self._config.max_pixels))
        value, path = step.attack.value or 0, self._new_path()
        return Inputs(value, _SEED, path, self._device, self._config.threads, **known)

    def _step(self, line: Comparison, step: Step, pairs: Pairs) -> Pairs:
        stage, run = step.attack.kind.stage, step.attack.kind.run
        if stage == "training":
            return pairs
        if stage in ("image", "survey"):
            edit = self._edit(
                line, step, lambda: (one for _, part in blocks(pairs) for one in part)
            )
            pixels = (
                np.stack([edit(one, row) for row, one in zip(rows, found, strict=True)])
                for rows, found in blocks(pairs)
            )
            return with_pixels(pairs, self._new_path(), pixels)
        inputs = self._inputs(line, step)
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


def image_edit(attack: Attack, seed: int) -> ImageAttack:
    """Return the function that applies an attack of the stage ``image``.

    It takes uint8 [H, W, 3] and the picture's position in the corpus, which together with ``seed``
    decides all that is random.
    """

    def edit(pixels: Pixels, row: int) -> Pixels:
        own = derive_seed(attack.name, seed, int(row))
        return np.array(attack.kind.run(Image.fromarray(pixels), attack.value or 0.0, own))

    return edit


def _edited(pixels: Pixels, edits: Sequence[ImageAttack], row: int) -> Pixels:
    for edit in edits:
        pixels = edit(pixels, row)
    return pixels


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
