"""The alternation of a fit: training steps, then a visit to every trigger and perturbation."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..seeds import derive_seed
from .captions import Captions
from .config import FitConfig
from .ensemble import SurrogateEnsemble, fit_spec
from .methods import get_method
from .microbatch import MicroBatch
from .models import to_model_input
from .objective import info_nce
from .passes import Passes
from .patterns import PatternBook, lay
from .pixels import PixelBatch
from .strength import STRENGTHS
from .surrogate import Surrogate, Weights, image_digest
from .tokens import insert_trigger
from .topics import Topics
from .views import Views
from .visit import Visit
from .vocabulary import full_vocabulary, trigger_vocabulary

if TYPE_CHECKING:
    from open_clip import CLIP

Progress = Callable[[int, int, float], None]
"""Called after each training step: steps done, steps in all, mean loss of the round so far."""

State = dict[str, Any]
"""Where a fit stands after a round: tensors, numbers, lists and dicts of them."""


class Rounds:
    """The samples of a fit with their present perturbations and triggers."""

    def __init__(self, images: Tensor, captions: Captions, config: FitConfig) -> None:
        self.config, self.images, self.captions = config, images, captions
        self.method = get_method(config.method)
        self.spec = fit_spec(config)
        self.generator = torch.Generator().manual_seed(config.seed)
        self.passes, self.visit_passes = Passes(), Passes()
        self.sequence: list[Weights] = []
        self.memory = MicroBatch()
        positions = config.positions
        self.code: PatternBook | None = None
        self.topics: Topics | None = None
        if config.any_word:
            self.vocabulary = full_vocabulary(captions.tokenizer, positions=positions)
        else:
            self.vocabulary = trigger_vocabulary(
                captions.tokenizer,
                positions=positions,
                size=None if config.published else config.vocabulary,
                words=config.words,
                seed=derive_seed("words", config.seed),
            )
        if not config.published:
            self._design()
        self.deltas = torch.zeros_like(images, dtype=torch.int8)
        self.choice, self.digests = self._draw_words()
        self.triggers = self.vocabulary.tokens(self.choice)
        # Perturbations start as their words' patterns, laid when a sample is first looked at.
        self.is_laid = torch.full((len(images),), self.code is None)
        self.ensemble = SurrogateEnsemble(config, self.spec)
        self.views = Views(config.views)

    def _design(self) -> None:
        """Give the trigger words patterns and find what decides between them."""
        config, positions = self.config, self.config.positions
        assert config.key is not None
        count = len(self.vocabulary.words[0])
        self.code = PatternBook(
            bytes.fromhex(config.key), STRENGTHS[config.strength], positions, count
        )
        if config.topics:
            self.topics = self.captions.topics(positions, count, config.seed)

    def _draw_words(self) -> tuple[Tensor, list[str]]:
        """Return each sample's words, int64 [N, k], and what identifies its picture if needed."""
        if self.code is None:
            return self.vocabulary.draw(len(self.images), self.generator), []
        digests = [image_digest(image) for image in self.images]
        choice = self.code.draw_words(digests, self.vocabulary.sizes)
        if self.topics is not None:
            choice = self.topics.choose(self.captions.texts, choice)
        return choice, digests

    def _lay(self, index: Tensor) -> None:
        """Let samples ``index`` carry their words' patterns."""
        rows = index[~self.is_laid[index]]
        if self.code is None or not len(rows):
            return
        pixels = PixelBatch(list(self.images[rows]), self.spec)
        digests = [self.digests[row] for row in rows.tolist()]
        lay(pixels, self.code, self.choice[rows], digests, self.config.epsilon)
        self.deltas[rows] = pixels.deltas[0]
        self.is_laid[rows] = True

    def run(
        self,
        progress: Progress | None,
        state: State | None = None,
        keep: Callable[[State], None] | None = None,
    ) -> Surrogate:
        """Take all rounds; the arguments are those of `fit_surrogate`."""
        config = self.config
        curve: list[float] = []
        if state is not None:
            curve = self._restore(state)
        for round_index in range(len(curve), config.round_count):
            curve.append(self._train(progress, round_index))
            self._keep_weights()
            search = round_index < config.search_rounds
            if config.visit_steps or search:
                self._visit(search)
            if keep is not None and config.published and round_index + 1 < config.round_count:
                keep(self._state(curve))
        return self._surrogate(curve)

    def _keep_weights(self) -> None:
        """Keep what `protect` replays: every round, or of a clean checkpoint the last one.

        Those of a published sequence are kept in bfloat16; norms and biases are few and stay whole.
        """
        found = self.ensemble.weights()
        if not self.method.alternates:
            self.sequence = found
        elif self.config.published:
            self.sequence += map(_in_bfloat16, found)
        else:
            self.sequence += found

    def _surrogate(self, curve: list[float]) -> Surrogate:
        config, names = self.config, self.ensemble.names
        fitted = self.method.fitted(self)
        meta = {
            "fit": vars(config),
            "samples": len(self.images),
            "curve": curve,
            "visit_passes": self.visit_passes.as_dict(),
            "passes": self.passes.as_dict(),
        }
        return Surrogate(
            self.spec,
            self.vocabulary,
            self.sequence,
            self.code,
            self.topics,
            fitted,
            architectures=names * (len(self.sequence) // len(names)),
            models_a_round=len(names),
            search_rounds=config.search_rounds,
            visit_steps=config.visit_steps,
            meta=meta,
        )

    def _state(self, curve: list[float]) -> State:
        return {
            "curve": list(curve),
            "learners": self.ensemble.state(),
            "deltas": self.deltas,
            "triggers": self.triggers,
            "generator": self.generator.get_state(),
            "sequence": self.sequence,
            "passes": self.passes.as_dict(),
            "visit_passes": self.visit_passes.as_dict(),
        }

    def _restore(self, state: State) -> list[float]:
        """Take up a state; return the loss of each round that is behind it."""
        self.ensemble.restore(state["learners"])
        self.deltas, self.triggers = state["deltas"], state["triggers"]
        self.generator.set_state(state["generator"])
        self.sequence = list(state["sequence"])
        self.passes = Passes(**state["passes"])
        self.visit_passes = Passes(**state["visit_passes"])
        return list(state["curve"])

    def tokens(self, index: Tensor, captions_from: Tensor) -> Tensor:
        """Put triggers of samples ``index`` before captions of ``captions_from``, int64 [B, L]."""
        bodies = self.captions.draw(captions_from.tolist(), self.generator)
        return insert_trigger(bodies, self.triggers[index]).to(self.config.device)

    def _train(self, progress: Progress | None, round_index: int) -> float:
        """Take a round's AdamW steps on the data as now protected; return the mean loss."""
        learners, total, steps = self.ensemble.training(), 0.0, self.config.round_steps
        for step in range(steps):
            for model, optimizer in learners:
                total += self._train_on_batch(model, optimizer)
            if progress is not None:
                mean = total / (step + 1) / len(learners)
                progress(round_index * steps + step + 1, self.config.round_count * steps, mean)
        return total / max(1, steps) / len(learners)

    def _train_on_batch(self, model: "CLIP", optimizer: torch.optim.Optimizer) -> float:
        count = min(self.config.batch_size, len(self.images))
        index = torch.randperm(len(self.images), generator=self.generator)[:count]
        self._lay(index)
        levels = self.images[index].to(torch.int16) + self.deltas[index].to(torch.int16)
        levels = levels.to(self.config.device)
        if self.views:
            levels = self.views(levels.float(), self._draw_seed())
        image = model.encode_image(to_model_input(levels, self.spec), normalize=True)
        text = model.encode_text(self.tokens(index, index), normalize=True)
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
        config, turns = self.config, self.ensemble.turns()
        order = torch.randperm(len(self.images), generator=self.generator)
        for index in order.split(config.batch_size):
            self._lay(index)
            pixels = PixelBatch(
                list(self.images[index]), self.spec, config.device, views=self.views
            )
            if self.code is not None:
                pixels.limit(config.epsilon, self.code.strength.floor)
            pixels.set_delta(0, self.deltas[index].to(config.device))
            codes = None if self.code is None else [pixels.deltas[0].sign()]
            spent = Passes()
            visit = Visit(
                pixels,
                self.triggers[index],
                config.device,
                config.epsilon,
                spent,
                self.memory,
                codes,
            )
            if search:
                bodies = self.captions.draw(index.tolist(), self.generator)
                visit.search(next(turns), bodies, self.vocabulary.allowed(config.device))
                self.triggers[index] = visit.trigger
            for _ in range(config.visit_steps):
                self._step(visit, next(turns), index)
            self.deltas[index] = pixels.deltas[0].cpu()
            self.passes.add(spent)
            self.visit_passes.add(spent)

    def _step(self, visit: Visit, model: "CLIP", index: Tensor) -> None:
        source = index
        if self.config.shuffle and self.config.positions:
            source = index[torch.randperm(len(index), generator=self.generator)]
        if self.views:
            visit.pixels.draw_view(self._draw_seed())
        bodies = self.captions.draw(source.tolist(), self.generator)
        visit.descend(model, visit.text_features(model, bodies, visit.trigger))


def _in_bfloat16(weights: Weights) -> Weights:
    return {
        name: value.bfloat16() if value.is_floating_point() and value.ndim > 1 else value
        for name, value in weights.items()
    }
