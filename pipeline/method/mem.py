"""One batch: triggers, code, and the replay against the surrogate's rounds; and the baselines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from ..seeds import derive_seed
from .config import MemConfig
from .effort import WordTrials, lay_code, steps, trials
from .hotflip import search_triggers
from .microbatch import MicroBatch, encode
from .objective import info_nce
from .passes import Passes
from .pgd import descend, encode_texts, permutation, targets
from .pixels import PixelBatch
from .precision import tune
from .surrogate import Fitted, Surrogate, check_surrogate, image_digest
from .tokens import insert_trigger
from .topics import draw_words
from .transfer import send
from .views import Views

if TYPE_CHECKING:
    from open_clip import CLIP


PAPER_STEPS = 8
TAP_STEPS = 40


@dataclass
class ProtectedBatch:
    """What `protect_batch` found, sample by sample in the order given.

    Attributes:
        delta: int8 [3, H, W] each; image + delta lies in 0..255.
        trigger_ids: k token ids each; empty for method ``random``.
        trigger_text: the words, separated by one space.
        loss_before: objective of the sample as it came, clean image and bare caption.
        loss_after: objective of the sample as it is published.
        shuffle_seeds: seed of the caption permutation of each PGD step, common to the batch.
        passes: what it cost.
    """

    delta: list[Tensor]
    trigger_ids: list[list[int]]
    trigger_text: list[str]
    loss_before: list[float]
    loss_after: list[float]
    shuffle_seeds: list[int] = field(default_factory=list)
    passes: Passes = field(default_factory=Passes)


class BatchProtector:
    """Protects batches against one surrogate; builds its models once.

    Args:
        surrogate: the fitted surrogate; None only for method ``random``.
        config: settings of the method.
        device: torch device.

    Raises:
        UsageError: no surrogate for method ``mem``, or settings out of range.
    """

    def __init__(self, surrogate: Surrogate | None, config: MemConfig, device: str = "cpu") -> None:
        config.validate()
        if config.method != "random":
            check_surrogate(surrogate, config)
        self.config = config
        self.surrogate = surrogate
        self.device = device
        self.memory = MicroBatch()
        self.models: list[CLIP] = []
        self.dtypes: list[torch.dtype] = []
        if surrogate is not None and config.method != "random":
            self.models = surrogate.models(device)
            self.dtypes = [
                tune(model, surrogate.spec, device, config.precision, compiled=config.compile)
                for model in self.models
            ]

    def __call__(
        self,
        images: Sequence[Tensor],
        captions: Sequence[Sequence[str]],
        seed: int,
        lossy: Sequence[bool] = (),
    ) -> ProtectedBatch:
        """Protect one batch.

        Args:
            images: uint8 [3, H, W] each, any sizes.
            captions: one or more captions of each image, without trigger.
            seed: everything random derives from it.
            lossy: which images will be stored as JPEG, which PGD steps then see; none where empty.
        """
        assert len(images) == len(captions)
        if self.config.method == "random":
            return _random_batch(images, self.config.epsilon, seed)
        assert self.surrogate is not None
        return _Visit(self, self.surrogate, images, captions, seed, lossy).run()


def protect_batch(
    surrogate: Surrogate | None,
    images: Sequence[Tensor],
    captions: Sequence[Sequence[str]],
    config: MemConfig,
    seed: int,
    device: str = "cpu",
) -> ProtectedBatch:
    """Protect a single batch; see `BatchProtector` for many."""
    return BatchProtector(surrogate, config, device)(images, captions, seed)


def _random_batch(images: Sequence[Tensor], epsilon: int, seed: int) -> ProtectedBatch:
    deltas = []
    for index, image in enumerate(images):
        generator = torch.Generator().manual_seed(derive_seed(seed, "noise", index))
        noise = torch.randint(0, 2, image.shape, generator=generator) * (2 * epsilon) - epsilon
        levels = image.to(torch.int16)
        deltas.append(((levels + noise).clamp_(0, 255) - levels).to(torch.int8))
    blank = [float("nan")] * len(images)
    return ProtectedBatch(deltas, [[] for _ in images], [""] * len(images), blank, list(blank))


class _Visit:
    """The state of one batch while it is protected."""

    def __init__(
        self,
        owner: BatchProtector,
        surrogate: Surrogate,
        images: Sequence[Tensor],
        captions: Sequence[Sequence[str]],
        seed: int,
        lossy: Sequence[bool],
    ) -> None:
        self.config, self.models, self.surrogate = owner.config, owner.models, surrogate
        self.device, self.seed, self.source = owner.device, seed, images
        self.memory, self.dtypes = owner.memory, owner.dtypes
        self.generator = torch.Generator().manual_seed(seed)
        self.pixels = PixelBatch(
            images,
            surrogate.spec,
            owner.device,
            budget=self.config.pixel_budget,
            views=Views(self.config.views),
            lossy=lossy,
        )
        self.passes = Passes()
        self.captions = captions
        self._tokens: dict[tuple[int, int], Tensor] = {}
        self.codes: list[Tensor] | None = None

    def run(self) -> ProtectedBatch:
        count = len(self.source)
        last = self.models[-1]
        before = self._losses(last, trigger=None)
        trigger = self._start()
        seeds = []
        known = self._known()
        if not all(known) or not known:
            for round_index, model in enumerate(self.models):
                if self.codes is None and trigger.shape[1]:
                    trigger = self._search(model, trigger)
                seeds += self._descend(model, trigger, round_index)
        self._take_fitted(known, trigger)
        trigger = self._publish(trigger)
        losses = torch.stack([before, self._losses(last, trigger)]).double().tolist()
        return ProtectedBatch(
            delta=self.pixels.split_deltas(),
            trigger_ids=trigger.tolist(),
            trigger_text=self.surrogate.vocabulary.texts(trigger),
            loss_before=losses[0],
            loss_after=losses[1],
            shuffle_seeds=seeds,
            passes=self.passes if count else Passes(),
        )

    def _known(self) -> list[Fitted | None]:
        """Return what fit has found for these very images."""
        fitted = self.surrogate.fitted
        return [fitted.get(image_digest(image)) if fitted else None for image in self.source]

    def _publish(self, trigger: Tensor) -> Tensor:
        """Drop the part that an ablation leaves out; return the trigger that is published."""
        if self.config.part == "text":
            for delta in self.pixels.deltas:
                delta.zero_()
        return trigger[:, :0] if self.config.part == "image" else trigger

    def _start(self) -> Tensor:
        """Draw triggers; lay their code, where the surrogate has one, at full amplitude."""
        vocabulary = self.surrogate.vocabulary
        choice = draw_words(vocabulary, self.surrogate.topics, self.captions, self.generator)
        if self.surrogate.code is not None:
            if self.config.effort is not None:
                choice = self._choose_words(choice, self.config.effort)
            self.codes = lay_code(self.pixels, self.surrogate.code, choice, self.config.epsilon)
        if self.surrogate.universal is not None:
            for group, images in enumerate(self.pixels.images):
                self.pixels.set_delta(group, self._universal(images))
        return vocabulary.tokens(choice)

    def _choose_words(self, choice: Tensor, effort: int) -> Tensor:
        """Spend passes on other words than those drawn; see `WordTrials`."""
        assert self.surrogate.code is not None
        bodies = self._first_bodies()
        others = bodies[targets(len(bodies), derive_seed(self.seed, "words"))]
        found = WordTrials(
            self.models[-1],
            self.pixels,
            self.surrogate.code,
            self.surrogate.vocabulary,
            others,
            self.config.epsilon,
            self.passes,
        )
        return found.run(choice, trials(effort))

    def _universal(self, images: Tensor) -> Tensor:
        """Stretch the one perturbation over images of any size, without new levels."""
        assert self.surrogate.universal is not None
        source = self.surrogate.universal.float()[None]
        delta = F.interpolate(source, size=images.shape[-2:], mode="nearest").to(torch.int8)
        bound = self.config.epsilon
        return delta.clamp(-bound, bound).to(self.device).expand_as(images)

    def _take_fitted(self, known: Sequence[Fitted | None], trigger: Tensor) -> None:
        """Put what fit has found for these very images in place of what was found here."""
        for group, members in enumerate(self.pixels.members):
            deltas = self.pixels.deltas[group]
            for row, index in enumerate(members):
                entry = known[index]
                if entry is not None:
                    bound = self.config.epsilon
                    deltas[row] = entry[0].clamp(-bound, bound).to(self.device)
                    trigger[index] = entry[1]

    def _draw_bodies(self) -> Tensor:
        """Pick one caption of each image, int64 [B, L], on the host."""
        counts = [len(texts) for texts in self.captions]
        return self._bodies([int(torch.randint(n, (1,), generator=self.generator)) for n in counts])

    def _first_bodies(self) -> Tensor:
        return self._bodies([0] * len(self.captions))

    def _bodies(self, picks: list[int]) -> Tensor:
        """Return that caption of each image, int64 [B, L]; others are never tokenised."""
        missing = [key for key in enumerate(picks) if key not in self._tokens]
        if missing:
            rows = self.surrogate.tokenizer([self.captions[row][pick] for row, pick in missing])
            self._tokens.update(zip(missing, rows, strict=True))
        return torch.stack([self._tokens[key] for key in enumerate(picks)])

    def _losses(self, model: CLIP, trigger: Tensor | None) -> Tensor:
        bodies = self._first_bodies()
        tokens = bodies if trigger is None else insert_trigger(bodies, trigger)
        with torch.no_grad():
            image = encode(model.encode_image, self.pixels.seen())
            text = encode_texts(model, send(tokens, self.device), self.passes)
            loss = info_nce(image, text, model.logit_scale.exp())
        self.passes.image_forward += len(self.source)
        return loss

    def _search(self, model: CLIP, trigger: Tensor) -> Tensor:
        with torch.no_grad():
            image = encode(model.encode_image, self.pixels.seen())
        self.passes.image_forward += len(self.source)
        allowed = self.surrogate.vocabulary.allowed(self.device)
        found = search_triggers(
            model,
            image,
            send(self._draw_bodies(), self.device),
            send(trigger, self.device),
            allowed,
            self.config.hotflip_candidates,
            self.passes,
            self.memory,
        )
        return found.cpu()

    def _descend(self, model: CLIP, trigger: Tensor, round_index: int) -> list[int]:
        """Run the PGD steps of one visit; return their shuffle seeds."""
        config, codes = self.config, self.codes if self.config.keep_code else None
        count = config.steps
        if count is None:
            count = self._own_steps()
        if config.method == "tap":
            seeds = [derive_seed(self.seed, "targets")] * count
        else:
            seeds = [derive_seed(self.seed, "shuffle", round_index, step) for step in range(count)]
        text = None
        self.pixels.dtype = self.dtypes[round_index]
        for step, seed in enumerate(seeds):
            if text is None or not self._captions_stay():
                tokens = insert_trigger(self._shuffled(seed), trigger)
                text = encode_texts(model, send(tokens, self.device), self.passes)
            self.pixels.draw_view(derive_seed(self.seed, "views", round_index, step))
            descend(model, self.pixels, text, config, codes, self.passes, self.memory)
        return seeds

    def _captions_stay(self) -> bool:
        """Tell whether every step sees each image beside the same caption."""
        if self.config.method == "tap":
            return True
        shuffled = self.config.shuffle and self.config.method != "em"
        return not shuffled and all(len(texts) == 1 for texts in self.captions)

    def _own_steps(self) -> int:
        """Return the method's own number of PGD steps against each surrogate."""
        if self.codes is not None or self.config.method == "uap":
            return 0
        if self.config.effort is not None:
            return steps(self.config.effort, len(self.models))
        return TAP_STEPS if self.config.method == "tap" else PAPER_STEPS

    def _shuffled(self, seed: int) -> Tensor:
        if self.config.method == "tap":
            firsts = self._first_bodies()
            return firsts[targets(len(firsts), seed)]
        bodies = self._draw_bodies()
        if self.config.method == "em" or not self.config.shuffle:
            return bodies
        return bodies[permutation(len(bodies), seed)]
