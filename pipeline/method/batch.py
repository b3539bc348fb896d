"""One batch while it is protected: started, replayed against the surrogate's rounds, measured."""

from itertools import cycle
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..seeds import derive_seed
from .captions import Captions
from .objective import info_nce
from .passes import Passes
from .patterns import PatternBook, lay
from .pixels import PixelBatch
from .protected import ProtectedBatch, Samples
from .surrogate import image_digest
from .views import Views
from .visit import Visit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from open_clip import CLIP

    from .methods.base import Replayed
    from .protector import BatchProtector


class Batch(Visit):
    """The state of one batch.

    Attributes:
        config: settings of the method.
        surrogate: what it is protected against.
        captions: without trigger.
        seed: everything random derives from it.
        generator: draws what comes in the order of use.
        digests: of the images' pixels.
    """

    def __init__(self, protector: "BatchProtector", samples: Samples) -> None:
        assert protector.surrogate is not None
        self.config, self.surrogate, self.seed = protector.config, protector.surrogate, samples.seed
        self.captions = Captions(samples.captions, self.surrogate.tokenizer)
        self.generator = torch.Generator().manual_seed(samples.seed)
        self._protector = protector
        self.digests = [image_digest(image) for image in samples.images]
        self._measured, self._earlier = samples.measured, samples.earlier
        pixels = PixelBatch(
            samples.images,
            self.surrogate.spec,
            protector.device,
            budget=self.config.pixel_budget,
            views=Views(self.config.views),
        )
        trigger = torch.empty((len(samples.images), 0), dtype=torch.int64)
        device, epsilon = protector.device, self.config.epsilon
        super().__init__(pixels, trigger, device, epsilon, Passes(), protector.memory)

    def run(self, method: "Replayed") -> ProtectedBatch:
        """Protect the batch as ``method`` decides."""
        models = self._protector.models
        before = self._losses(models[-1], trigger=None)
        method.start(self)
        seeds: list[int] = []
        each = self.surrogate.models_a_round
        pairs = list(zip(models, self._protector.dtypes, strict=True))
        for index, start in enumerate(range(0, len(pairs), each)):
            seeds += self._visit(method, cycle(pairs[start : start + each]), index)
        self._drop_part()
        losses = torch.stack([before, self._losses(models[-1], self.trigger)]).double().tolist()
        return ProtectedBatch(
            delta=self.pixels.split_deltas(),
            trigger_ids=self.trigger.tolist(),
            trigger_text=self.surrogate.vocabulary.texts(self.trigger),
            loss_before=losses[0],
            loss_after=losses[1],
            shuffle_seeds=seeds,
            passes=self.passes,
        )

    def lay(self, code: PatternBook, choice: Tensor) -> None:
        """Lay the patterns of chosen words (int64 [B, k]) at full amplitude."""
        laid = lay(self.pixels, code, choice, self.digests, self.config.epsilon)
        if self._protector.steps:
            self.codes = [change.sign() for change in laid]

    def texts_of_pictures(self) -> list[list[str]]:
        """Return the captions of each picture; equal pictures have all that any of them has.

        A picture of an earlier batch has the captions that it had there.
        """
        found: dict[str, list[str]] = {}
        for digest, texts in zip(self.digests, self.captions.texts, strict=True):
            found.setdefault(digest, []).extend(texts)
        for digest, texts in found.items():
            self._earlier.setdefault(digest, texts)
        return [self._earlier[digest] for digest in self.digests]

    def draw_bodies(self) -> Tensor:
        """Pick one caption of each image, int64 [B, L], on the host."""
        return self.captions.draw(range(len(self.captions)), self.generator)

    def first_bodies(self) -> Tensor:
        """Return the first caption of each image, int64 [B, L], on the host."""
        return self.captions.firsts(range(len(self.captions)))

    def _visit(
        self, method: "Replayed", turns: "Iterator[tuple[CLIP, torch.dtype]]", round_index: int
    ) -> list[int]:
        """Visit the batch as the fit did in that round; return the seeds of the caption orders."""
        if round_index < self.surrogate.search_rounds:
            model, _ = next(turns)
            bodies = self.draw_bodies()
            self.search(model, bodies, self.surrogate.vocabulary.allowed(self.device))
        seeds: list[int] = []
        text = None
        stays = self.surrogate.models_a_round == 1 and method.captions_stay(self)
        for step in range(self._protector.steps):
            model, self.pixels.dtype = next(turns)
            seed = None
            if method.shuffles(self.config):
                seed = method.step_seed(self, round_index, step)
                seeds.append(seed)
            if text is None or not stays:
                text = self.text_features(model, method.bodies(self, seed), self.trigger)
            self.pixels.draw_view(derive_seed(self.seed, "views", round_index, step))
            self.descend(model, text, ascend=method.ascends)
        return seeds

    def _losses(self, model: "CLIP", trigger: Tensor | None) -> Tensor:
        if not self._measured:
            return torch.full((len(self.captions),), torch.nan)
        with torch.no_grad():
            image = self.image_features(model)
            text = self.text_features(model, self.first_bodies(), trigger)
            return info_nce(image, text, model.logit_scale.exp())

    def _drop_part(self) -> None:
        """Leave out the part that an ablation does not publish."""
        if self.config.part == "text":
            for delta in self.pixels.deltas:
                delta.zero_()
        if self.config.part == "image":
            self.trigger = self.trigger[:, :0]
