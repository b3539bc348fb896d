"""Fit: MEM's alternation on a bounded set of samples (``default``) or as published (``paper``)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..seeds import derive_seed
from .config import FitConfig, MemConfig
from .content import share_of_guess
from .hotflip import search_triggers
from .learners import Learners, common_spec
from .models import get_tokenizer, to_model_input
from .objective import info_nce
from .passes import Passes
from .patterns import TEXTURES, PatternBook
from .pgd import climb_universal, descend, encode_texts
from .pixels import PixelBatch
from .surrogate import Surrogate, Weights, image_digest
from .tokens import insert_trigger
from .topics import Topics, draw_words, fit_topics
from .units import MicroBatch, encode
from .views import Views
from .vocabulary import corpus_vocabulary, full_vocabulary

if TYPE_CHECKING:
    from open_clip import CLIP

Progress = Callable[[str, int, int], None]
# Share of a guess's loss above which a trial on clean pairs has read little of the pictures.
_UNREAD = 0.75
# One sample in so many is kept from the trial.
_HELD_OUT = 8

State = dict[str, Any]
"""Where a fit stands after a round: tensors, numbers, lists and dicts of them."""


def fit_surrogate(
    images: Tensor,
    captions: Sequence[Sequence[str]],
    config: FitConfig,
    progress: Progress | None = None,
    *,
    state: State | None = None,
    keep: Callable[[State], None] | None = None,
) -> Surrogate:
    """Fit a surrogate.

    Args:
        images: uint8 [N, 3, S, S] at the model's input size.
        captions: one or more captions of each image.
        config: settings; ``schedule`` decides between the two forms.
        progress: called with (phase, rounds done, rounds in all).
        state: where an interrupted fit of the same samples and settings stood; it goes on there and
            ends with the same surrogate as one that was not interrupted.
        keep: called with the state after each round but the last, where the published settings
            make rounds long; the default schedule has a single short one.

    Returns:
        The surrogate; with ``paper`` it carries the perturbation and trigger of every sample.

    Raises:
        UsageError: settings out of range, or too few words in the captions.
    """
    config.validate()
    if config.published:
        return _Fit(images, captions, config).run(progress, state, keep)
    content = None
    if config.topics is None:
        content = _content_loss(images, captions, config)
        config = dataclasses.replace(config, topics=content > _UNREAD)
    surrogate = _fit_soonest_read(images, captions, config, progress)
    surrogate.meta["content_loss"] = content
    return surrogate


def _content_loss(images: Tensor, captions: Sequence[Sequence[str]], config: FitConfig) -> float:
    """Return the loss of a fit on clean pairs that it has not seen, as a share of a guess's."""
    seen = [i for i in range(len(images)) if i % _HELD_OUT]
    held = range(0, len(images), _HELD_OUT)
    if len(held) < 2:
        return 1.0
    steps = config.round_count * config.round_steps
    settings = dataclasses.replace(config, method="tap", rounds=1, steps_per_round=steps)
    trial = _Fit(images[seen], [captions[i] for i in seen], settings)
    trial.run(None)
    model, texts = next(trial.learners.turns()), [captions[i] for i in held]
    return share_of_guess(
        model, trial.spec, images[::_HELD_OUT], texts, config.batch_size, config.device
    )


def _fit_soonest_read(
    images: Tensor,
    captions: Sequence[Sequence[str]],
    config: FitConfig,
    progress: Progress | None,
) -> Surrogate:
    """Fit once with each texture and keep the fit whose training loss was lowest on average.

    On drawings plain casts are read sooner, on photographs textured ones; what a model reads sooner
    from the start is what protects (docs/results).
    """
    if config.texture is not None:
        return _Fit(images, captions, config).run(progress)
    trials = {}
    for texture in TEXTURES:
        settings = dataclasses.replace(config, texture=texture)
        trials[texture] = _Fit(images, captions, settings).run(progress)
    losses = {texture: fmean(trial.meta["curve"]) for texture, trial in trials.items()}
    chosen = trials[min(losses, key=losses.__getitem__)]
    chosen.meta["texture_losses"] = {str(texture): loss for texture, loss in losses.items()}
    return chosen


class _Fit:
    """The samples of a fit with their present perturbations and triggers."""

    def __init__(
        self, images: Tensor, captions: Sequence[Sequence[str]], config: FitConfig
    ) -> None:
        self.config, self.images = config, images
        self.spec = common_spec(
            config.model, image_size=config.image_size, context_length=config.context_length
        )
        tokenizer: Any = get_tokenizer(self.spec.name, self.spec.context_length)
        self.bodies = [tokenizer(list(texts)) for texts in captions]
        self.generator = torch.Generator().manual_seed(config.seed)
        self.passes = Passes()
        self.memory = MicroBatch()
        positions = config.positions
        self.code: PatternBook | None = None
        self.topics: Topics | None = None
        if config.published:
            self.vocabulary = full_vocabulary(
                tokenizer, positions=positions, blocklist=config.blocklist
            )
        else:
            self._design(captions, tokenizer)
        self.deltas, self.triggers = self._start(captions)
        self.learners = Learners(config, self.spec)
        self.views = Views(config.views)

    def _design(self, captions: Sequence[Sequence[str]], tokenizer: Any) -> None:
        """Choose trigger words, give them patterns and find what decides between them."""
        config, positions = self.config, self.config.positions
        assert config.texture is not None
        coded = min(positions, config.coded_words)
        self.vocabulary = corpus_vocabulary(
            captions,
            tokenizer,
            positions=positions,
            coded=coded,
            size=config.vocabulary,
            decoys=config.decoys,
            blocklist=config.blocklist,
            words=config.words,
            least=config.word_floor,
        )
        count = len(self.vocabulary.words[0])
        self.code = PatternBook.design(
            coded, count, config.texture, derive_seed("textures", config.seed)
        )
        if config.topics:
            self.topics = fit_topics(captions, coded, count, config.seed)

    def _start(self, captions: Sequence[Sequence[str]]) -> tuple[Tensor, Tensor]:
        choice = draw_words(self.vocabulary, self.topics, captions, self.generator)
        deltas = torch.zeros_like(self.images, dtype=torch.int8)
        if self.code is not None:
            height, width = self.images.shape[-2:]
            for start in range(0, len(choice), 256):
                part = slice(start, start + 256)
                pixels = PixelBatch(list(self.images[part]), self.spec)
                pixels.set_delta(
                    0, self.code.compose(choice[part], height, width) * self.config.epsilon
                )
                deltas[part] = pixels.deltas[0]
        return deltas, self.vocabulary.tokens(choice)

    def run(
        self,
        progress: Progress | None,
        state: State | None = None,
        keep: Callable[[State], None] | None = None,
    ) -> Surrogate:
        config = self.config
        sequence: list[Weights] = []
        curve: list[float] = []
        if state is not None:
            curve = self._restore(state)
        for round_index in range(len(curve), config.round_count):
            curve.append(self._train())
            sequence += self.learners.weights()
            search = round_index < config.search_rounds
            if config.visit_steps or search:
                self._visit(search)
            if progress is not None:
                progress("fit", round_index + 1, config.round_count)
            if keep is not None and config.published and round_index + 1 < config.round_count:
                keep(self._state(curve))
        universal = self._universal() if config.method == "uap" else None
        meta = {
            "fit": {**vars(config), "blocklist": sorted(config.blocklist)},
            "samples": len(self.images),
            "curve": curve,
            "passes": self.passes.as_dict(),
        }
        parts: dict[str, Any] = {
            "code": self.code,
            "topics": self.topics,
            "universal": universal,
        }
        if config.published:
            sequence = sequence[-len(self.learners.models) :]
        if config.published and config.method not in ("tap", "uap"):
            found = zip(self.images, self.deltas, self.triggers, strict=True)
            parts["fitted"] = {image_digest(i): (delta, trigger) for i, delta, trigger in found}
        architectures = self.learners.names * (len(sequence) // len(self.learners.names))
        return Surrogate(
            self.spec, self.vocabulary, sequence, **parts, architectures=architectures, meta=meta
        )

    def _state(self, curve: list[float]) -> State:
        return {
            "curve": list(curve),
            "learners": self.learners.state(),
            "deltas": self.deltas,
            "triggers": self.triggers,
            "generator": self.generator.get_state(),
            "passes": self.passes.as_dict(),
        }

    def _restore(self, state: State) -> list[float]:
        """Take up a state; return the loss of each round that is behind it."""
        self.learners.restore(state["learners"])
        self.deltas, self.triggers = state["deltas"], state["triggers"]
        self.generator.set_state(state["generator"])
        self.passes = Passes(**state["passes"])
        return list(state["curve"])

    def _universal(self) -> Tensor:
        """Climb the loss of the clean checkpoints with one perturbation for all batches."""
        config, turns = self.config, self.learners.turns()
        delta = torch.zeros_like(self.images[0], dtype=torch.int8)
        count = min(config.batch_size, len(self.images))
        for _ in range(config.round_steps):
            index = torch.randperm(len(self.images), generator=self.generator)[:count]
            pixels = PixelBatch(list(self.images[index].to(config.device)), self.spec)
            tokens = self._tokens(index, index)
            delta = climb_universal(
                next(turns), pixels, delta, tokens, config, self.passes, self.memory
            )
        return delta

    def _tokens(self, index: Tensor, captions_from: Tensor) -> Tensor:
        """Put triggers of samples ``index`` before captions of ``captions_from``, int64 [B, L]."""
        bodies = self._draw_bodies(captions_from)
        return insert_trigger(bodies, self.triggers[index]).to(self.config.device)

    def _draw_bodies(self, index: Tensor) -> Tensor:
        """Pick one caption of each sample, int64 [B, L]."""
        rows = [self.bodies[i] for i in index.tolist()]
        picks = [int(torch.randint(0, len(row), (1,), generator=self.generator)) for row in rows]
        return torch.stack([row[pick] for row, pick in zip(rows, picks, strict=True)])

    def _train(self) -> float:
        """Take a round's AdamW steps on the data as now protected; return the mean loss."""
        learners, total = self.learners.training(), 0.0
        for _ in range(self.config.round_steps):
            for model, optimizer in learners:
                total += self._train_on_batch(model, optimizer)
        return total / max(1, self.config.round_steps) / len(learners)

    def _train_on_batch(self, model: CLIP, optimizer: torch.optim.Optimizer) -> float:
        count = min(self.config.batch_size, len(self.images))
        index = torch.randperm(len(self.images), generator=self.generator)[:count]
        levels = self.images[index].to(torch.int16) + self.deltas[index].to(torch.int16)
        levels = levels.to(self.config.device)
        if self.views:
            levels = self.views(levels.float(), self._draw_seed())
        image = model.encode_image(to_model_input(levels, self.spec), normalize=True)
        text = model.encode_text(self._tokens(index, index), normalize=True)
        loss = info_nce(image, text, model.logit_scale.exp()).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        self.passes.add(Passes(count, count, count, count))
        return loss.item()

    def _draw_seed(self) -> int:
        """Draw the seed of the next views."""
        return int(torch.randint(0, 1 << 62, (1,), generator=self.generator))

    def _visit(self, search: bool) -> None:
        """Visit every sample once: triggers (if ``search``), then PGD."""
        config, turns = self.config, self.learners.turns()
        order = torch.randperm(len(self.images), generator=self.generator)
        for index in order.split(config.batch_size):
            images = list(self.images[index].to(config.device))
            pixels = PixelBatch(images, self.spec, views=self.views)
            pixels.set_delta(0, self.deltas[index].to(config.device))
            if search:
                self._search(next(turns), pixels, index)
            self._descend(turns, pixels, index)
            self.deltas[index] = pixels.deltas[0].cpu()

    def _search(self, model: CLIP, pixels: PixelBatch, index: Tensor) -> None:
        bodies = self._draw_bodies(index)
        with torch.no_grad():
            image = encode(model.encode_image, pixels.seen())
        self.passes.image_forward += len(index)
        device = self.config.device
        self.triggers[index] = search_triggers(
            model,
            image,
            bodies.to(device),
            self.triggers[index].to(device),
            self.vocabulary.allowed(device),
            self.config.hotflip_candidates,
            self.passes,
            self.memory,
        ).cpu()

    def _descend(self, turns: Iterator[CLIP], pixels: PixelBatch, index: Tensor) -> None:
        config = self.config
        settings = MemConfig(epsilon=config.epsilon, step_size=config.step_size)
        codes = None
        if self.code is not None:
            codes = [pixels.deltas[0].sign()]
        for _ in range(config.visit_steps):
            source = index
            if config.shuffle and config.positions:
                source = index[torch.randperm(len(index), generator=self.generator)]
            if self.views:
                pixels.draw_view(self._draw_seed())
            model = next(turns)
            text = encode_texts(model, self._tokens(index, source), self.passes)
            descend(model, pixels, text, settings, codes, self.passes, self.memory)
