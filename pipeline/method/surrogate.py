"""The fitted surrogate: weights of every round, trigger vocabulary, code."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..errors import UsageError
from .models import ModelSpec, Tokenizer, build_model, get_tokenizer, model_spec
from .patterns import PatternBook
from .topics import Topics
from .vocabulary import TriggerVocabulary

if TYPE_CHECKING:
    from open_clip import CLIP

Weights = dict[str, Tensor]
_SHARED = ("round", "topics.")


@dataclass
class Surrogate:
    """Everything ``protect`` needs to know about a fit.

    Attributes:
        spec: the model's inputs.
        vocabulary: trigger words.
        sequence: weights in each round that is replayed as the visit of that round saw them, first
            round first; of several models their weights after one another.
        code: patterns of the trigger words, or None where perturbations start from zero.
        topics: what chooses the words that own a pattern, or None where chance does.
        fitted: the method's own tensors by name.
        architectures: model name of each entry of ``sequence``; that of ``spec`` where empty.
        models_a_round: models that take turns in each round.
        search_rounds: first rounds in which triggers are searched.
        visit_steps: PGD steps that a visit of the fit took.
        repeats: words of pictures that stood in several samples of the fit, as indices, by the
            pictures' digest.
        meta: JSON-ready record of the fit: settings, curves, versions.
    """

    spec: ModelSpec
    vocabulary: TriggerVocabulary
    sequence: list[Weights]
    code: PatternBook | None = None
    topics: Topics | None = None
    fitted: dict[str, Tensor] = field(default_factory=dict)
    architectures: list[str] = field(default_factory=list)
    models_a_round: int = 1
    search_rounds: int = 0
    visit_steps: int = 0
    repeats: dict[str, list[int]] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)

    @property
    def method(self) -> str:
        """The method it was fitted for."""
        return str(self.meta["fit"]["method"])

    @property
    def tokenizer(self) -> Tokenizer:
        """``list[str] -> int64 [N, L]``."""
        return get_tokenizer(self.spec.name, self.spec.context_length)

    @property
    def trigger_words(self) -> int:
        """Words in a trigger (k)."""
        return self.vocabulary.positions

    @property
    def size(self) -> int:
        """Bytes of all weights as the artifact holds them."""
        return sum(value.nbytes for weights in self.sequence for value in weights.values())

    @property
    def strength(self) -> str:
        """Name of the patterns' strength; empty where there are none."""
        return "" if self.code is None else str(self.meta["fit"]["strength"])

    @property
    def floor(self) -> float:
        """Share of epsilon that smooth ground gets (`perceptual.bound_map`)."""
        return 1.0 if self.code is None else self.code.strength.floor

    def choose_words(self, digests: Sequence[str], texts: Sequence[Sequence[str]]) -> Tensor:
        """Choose the words that own the patterns of pictures, int64 [B, k] as indices.

        Args:
            digests: of the pictures, by `image_digest`.
            texts: captions of each.
        """
        assert self.code is not None
        choice = self.code.draw_words(digests, self.vocabulary.sizes)
        if self.topics is not None:
            choice = self.topics.choose(texts, choice)
        for row, digest in enumerate(digests):
            if digest in self.repeats:
                choice[row] = torch.tensor(self.repeats[digest])
        return choice

    def settle_repeats(self, digests: Sequence[str], texts: Sequence[Sequence[str]]) -> None:
        """Give all samples of one picture the words that the captions of its first one choose.

        Otherwise they would carry patterns of their own, and a mean over them would lose these.

        Args:
            digests: of the corpus's pictures, by `image_digest`.
            texts: captions of each.
        """
        if self.topics is None:
            return
        times = Counter(digests)
        first: dict[str, Sequence[str]] = {}
        for digest, own in zip(digests, texts, strict=True):
            if times[digest] > 1:
                first.setdefault(digest, own)
        if first:
            words = self.choose_words(list(first), list(first.values())).tolist()
            self.repeats = dict(zip(first, words, strict=True))

    def models(self, device: str) -> "list[CLIP]":
        """Build one frozen model for each entry of ``sequence``, in evaluation mode."""
        names = self.architectures or [self.spec.name] * len(self.sequence)
        pairs = zip(names, self.sequence, strict=True)
        return [self._frozen(name, weights, device) for name, weights in pairs]

    def _frozen(self, name: str, weights: Weights, device: str) -> "CLIP":
        model = build_model(
            name,
            image_size=self.spec.image_size,
            context_length=self.spec.context_length,
        )
        model.load_state_dict(weights)
        model.requires_grad_(False)
        return model.to(device=device, memory_format=torch.channels_last).eval()

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Split into named tensors and a JSON-ready description, for `from_state`."""
        tensors = {
            f"round{index:03d}.{name}": value.contiguous()
            for index, weights in enumerate(self.sequence)
            for name, value in weights.items()
        }
        if self.topics is not None:
            tensors |= self.topics.tensors()
        tensors |= self.fitted
        meta = {
            **self.meta,
            "model": self.spec.name,
            "image_size": self.spec.image_size,
            "context_length": self.spec.context_length,
            "trigger_words": self.trigger_words,
            "rounds_replayed": len(self.sequence) // self.models_a_round,
            "models_a_round": self.models_a_round,
            "search_rounds": self.search_rounds,
            "visit_steps": self.visit_steps,
            "architectures": self.architectures,
            "vocabulary": {"words": self.vocabulary.words, "ids": self.vocabulary.ids},
            "patterns": None if self.code is None else self.code.as_dict(),
            "topic_words": [] if self.topics is None else self.topics.words,
            "repeats": self.repeats,
        }
        return tensors, meta

    @staticmethod
    def from_state(tensors: dict[str, Tensor], meta: dict[str, Any]) -> "Surrogate":
        """Rebuild what `state` took apart.

        Raises:
            UsageError: a part is missing.
        """
        try:
            spec = model_spec(
                meta["model"],
                image_size=meta["image_size"],
                context_length=meta["context_length"],
            )
            words = meta["vocabulary"]
            vocabulary = TriggerVocabulary(
                tuple(map(tuple, words["words"])), tuple(map(tuple, words["ids"]))
            )
            each, search, steps = (
                int(meta[name]) for name in ("models_a_round", "search_rounds", "visit_steps")
            )
            count = meta["rounds_replayed"] * each
            patterns = meta["patterns"]
            sequence = [_strip(tensors, f"round{i:03d}.") for i in range(count)]
        except (KeyError, TypeError) as error:
            raise UsageError(f"the surrogate's description lacks {error}; fit it again") from error
        if not all(sequence):
            raise UsageError("the surrogate lacks weights of a round; fit it again")
        return Surrogate(
            spec,
            vocabulary,
            sequence,
            PatternBook.from_dict(patterns, meta["fit"]["key"]) if patterns else None,
            Topics.from_tensors(tensors, meta.get("topic_words", ())),
            fitted={k: v for k, v in tensors.items() if not k.startswith(_SHARED)},
            architectures=list(meta.get("architectures", [])),
            models_a_round=each,
            search_rounds=search,
            visit_steps=steps,
            repeats=dict(meta.get("repeats", {})),
            meta=meta,
        )


def image_digest(image: Tensor) -> str:
    """Identify an image by its pixels (uint8 [3, H, W])."""
    shape = ",".join(map(str, image.shape)).encode()
    return hashlib.sha256(shape + image.contiguous().numpy().tobytes()).hexdigest()[:32]


def _strip(tensors: dict[str, Tensor], prefix: str) -> Weights:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def check_surrogate(surrogate: Surrogate | None, method: str) -> Surrogate:
    """Return ``surrogate``. Raises UsageError unless it was fitted for ``method``."""
    if surrogate is None:
        raise UsageError(f"method {method} needs a surrogate; run `unlearnable fit` first")
    if surrogate.method != method:
        raise UsageError(
            f"the surrogate was fitted for method {surrogate.method}, not {method}: pass "
            f"--method {surrogate.method}, or run `unlearnable fit --method {method}`"
        )
    return surrogate
