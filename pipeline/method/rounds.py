"""The alternation of a fit: training steps, then a visit to every trigger and perturbation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..seeds import derive_seed
from .config import FitConfig, MemConfig
from .ensemble import Learners, fit_spec
from .hotflip import search_triggers
from .microbatch import MicroBatch, encode
from .models import Tokenizer, to_model_input
from .objective import info_nce
from .passes import Passes
from .patterns import PatternBook
from .pgd import climb_universal, descend, encode_texts
from .pixels import PixelBatch
from .surrogate import Surrogate, Weights, image_digest
from .tokens import insert_trigger
from .topics import Topics, draw_words, fit_topics
from .views import Views
from .vocabulary import corpus_vocabulary, full_vocabulary

if TYPE_CHECKING:
    from open_clip import CLIP

Progress = Callable[[str, int, int], None]

State = dict[str, Any]
"""Where a fit stands after a round: tensors, numbers, lists and dicts of them."""


class Captions:
    """The captions of a fit, with what each of its trials would work out anew.

    Attributes:
        texts: one or more of each sample.
        tokens: of each sample, int64 [captions, context].
        tokenizer: the models' own.
    """

    def __init__(
        self,
        texts: Sequence[Sequence[str]],
        tokenizer: Tokenizer,
        tokens: list[Tensor] | None = None,
    ) -> None:
        self.texts, self.tokenizer = texts, tokenizer
        self.tokens = tokens or [tokenizer(list(own)) for own in texts]
        self._topics: dict[tuple[int, int, int], Topics | None] = {}

    def of(self, rows: Sequence[int]) -> Captions:
        """Return those of some samples."""
        texts, tokens = [self.texts[i] for i in rows], [self.tokens[i] for i in rows]
        return Captions(texts, self.tokenizer, tokens)

    def topics(self, positions: int, count: int, seed: int) -> Topics | None:
        """Return what `fit_topics` makes of them."""
        asked = (positions, count, seed)
        if asked not in self._topics:
            self._topics[asked] = fit_topics(self.texts, *asked)
        return self._topics[asked]


class Rounds:
    """The samples of a fit with their present perturbations and triggers."""

    def __init__(self, images: Tensor, captions: Captions, config: FitConfig) -> None:
        self.config, self.images, self.captions = config, images, captions
        self.spec = fit_spec(config)
        self.generator = torch.Generator().manual_seed(config.seed)
        self.passes = Passes()
        self.memory = MicroBatch()
        positions = config.positions
        self.code: PatternBook | None = None
        self.topics: Topics | None = None
        if config.published:
            self.vocabulary = full_vocabulary(
                captions.tokenizer, positions=positions, blocklist=config.blocklist
            )
        else:
            self._design()
        self.deltas, self.triggers = self._start()
        self.learners = Learners(config, self.spec)
        self.views = Views(config.views)

    def _design(self) -> None:
        """Choose trigger words, give them patterns and find what decides between them."""
        config, positions = self.config, self.config.positions
        assert config.texture is not None
        coded = min(positions, config.coded_words)
        self.vocabulary = corpus_vocabulary(
            self.captions.texts,
            self.captions.tokenizer,
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
            self.topics = self.captions.topics(coded, count, config.seed)

    def _start(self) -> tuple[Tensor, Tensor]:
        choice = draw_words(self.vocabulary, self.topics, self.captions.texts, self.generator)
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
        """Take all rounds; the arguments are those of `fit_surrogate`."""
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
            pixels = PixelBatch(list(self.images[index]), self.spec, config.device)
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
        rows = [self.captions.tokens[i] for i in index.tolist()]
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
            images = list(self.images[index])
            pixels = PixelBatch(images, self.spec, config.device, views=self.views)
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
