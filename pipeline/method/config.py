"""Settings of the method; each field is one option of the command line."""

# No postponed annotations: they would be looked up in the module of whoever inherits.
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ..errors import UsageError
from .methods import get_method
from .strength import STRENGTHS, StrengthName

Part = Literal["both", "image", "text"]
Precision = Literal["auto", "fp32", "bf16"]
Schedule = Literal["default", "paper"]

VIEW_KINDS = ("crop", "resize", "flip", "jpeg")
MAX_EPSILON = 64
PIXEL_BUDGET = 1 << 24
MAX_TRIGGER_WORDS = 16
# What stands for a list of all frequent words of the tokenizer.
ANY_WORD = "tokenizer"


@dataclass(frozen=True, kw_only=True)
class Bound:
    """The bound on a perturbation."""

    epsilon: int = 8
    """Largest change of a pixel, in 8-bit levels, 1 to 64."""

    def check_epsilon(self) -> None:
        """Raise UsageError for a bound outside 1..MAX_EPSILON."""
        if not 1 <= self.epsilon <= MAX_EPSILON:
            raise UsageError(f"epsilon is {self.epsilon}; it must be 1..{MAX_EPSILON} 8-bit levels")


@dataclass(frozen=True, kw_only=True)
class MethodConfig(Bound):
    """How batches are protected."""

    method: str = "mem"
    """mem; a baseline that the surrogate was fitted for (see `fit`); or random noise."""
    steps: int | None = None
    """Gradient steps in each round of the surrogate; the method's own number when unset."""
    shuffle: bool = True
    """Permute the captions inside the batch in each gradient step."""
    views: tuple[str, ...] = ()
    """Random views that gradient steps average over, with commas: crop, resize, flip, jpeg."""
    pixel_budget: int = PIXEL_BUDGET
    """Native pixels handled at once as floats; a batch holds at most about four times as many."""
    part: Part = "both"
    """What is published, for ablations of mem: both, the perturbed image or the trigger alone."""
    precision: Precision = "auto"
    """Precision of passes through the surrogate; auto is bf16 on a GPU, fp32 elsewhere."""
    compile: bool = False
    """Compile the surrogate, replayed as CUDA graphs: pays where gradient steps are taken."""

    def validate(self) -> None:
        """Raise UsageError for settings outside their range."""
        self.check_epsilon()
        if self.steps is not None and self.steps < 0:
            raise UsageError(f"steps is {self.steps}; it must be >= 0")
        if self.pixel_budget < 1:
            raise UsageError(f"pixel-budget is {self.pixel_budget}; it must be at least 1 pixel")
        if self.part != "both" and not get_method(self.method).has_triggers:
            raise UsageError(
                f"part {self.part} leaves one half of the pair of mem out, method {self.method} "
                "has no pair; leave --part out"
            )
        check_views(self.views)


@dataclass(frozen=True, kw_only=True)
class FitOptions(Bound):
    """How a surrogate is fitted, as far as options say."""

    model: str = "tiny"
    """tiny (64 px, for CPUs) or any open_clip model; several, with commas, take turns."""
    method: str = "mem"
    """mem, or a baseline: em (images alone), tap (towards other captions), tap-untargeted (away
    from its own), uap (one for all)."""
    schedule: Schedule = "default"
    """default: perturbations start from their trigger's code; paper: the published alternation."""
    trigger_words: int = 3
    """Words put in front of each caption, 1 to 16."""
    vocabulary: int = 8
    """Words that a trigger position may use, each with a pattern (default schedule)."""
    topics: bool | None = None
    """What captions say chooses the trigger, or chance; fit decides if unset."""
    strength: StrengthName = "strong"
    """gentle, balanced or strong: how well patterns hide and how soon they are read."""
    texture: float | None = None
    """Share of a period in which a pattern's cast is inverted; fit decides on 0 or 0.5 if unset."""
    views: tuple[str, ...] = ()
    """Random views that it is fitted on, with commas: crop, resize, flip, jpeg."""
    image_size: int | None = None
    """Side of the surrogate's square input in pixels; the model's own when unset."""
    context_length: int | None = None
    """Tokens that the surrogate reads of a caption; the model's own when unset."""
    rounds: int | None = None
    """Rounds of the alternation; the schedule's own number when unset."""
    steps_per_round: int | None = None
    """Optimiser steps of the surrogate in a round; when unset the schedule's own number, in the
    default schedule 20 passes over the samples at most."""
    pgd_steps: int | None = None
    """Gradient steps on the perturbations a visit; the schedule's own number when unset."""
    hotflip_rounds: int | None = None
    """First rounds in which triggers are searched (paper schedule); a quarter of all when unset."""
    shuffle: bool = True
    """Permute the captions inside the batch in each gradient step (paper schedule)."""
    batch_size: int = 128
    """Samples a batch."""
    seed: int = 0
    """Seed of the choice of samples and of the fit."""


@dataclass(frozen=True, kw_only=True)
class FitConfig(FitOptions):
    """How a surrogate is fitted: the options, and what else decides.

    Attributes:
        lr: AdamW learning rate; the schedule's own where None.
        weight_decay: AdamW weight decay.
        words: the only words that a trigger may use, a list a position, the last one for all that
            follow; when empty those of the shipped list.
        any_word: a trigger may use any frequent word of the tokenizer, as published (paper
            schedule).
        key: of the patterns, hexadecimal; drawn by the fit where None.
        device: torch device.
    """

    lr: float | None = None
    weight_decay: float = 0.2
    words: tuple[tuple[str, ...], ...] = ()
    any_word: bool = False
    key: str | None = None
    device: str = "cpu"

    def validate(self) -> None:
        """Raise UsageError for settings outside their range."""
        if not get_method(self.method).needs_surrogate:
            raise UsageError(f"method {self.method} needs no surrogate; run `protect` at once")
        if not 1 <= self.trigger_words <= MAX_TRIGGER_WORDS:
            raise UsageError(
                f"trigger-words is {self.trigger_words}; it must be 1..{MAX_TRIGGER_WORDS}"
            )
        self.check_epsilon()
        if self.batch_size < 2 or self.vocabulary < 2:
            raise UsageError("batch-size and vocabulary must be >= 2")
        if self.any_word and not self.published:
            raise UsageError(f"words {ANY_WORD} is for the paper schedule; give a file of words")
        check_views(self.views)
        self._check_patterns()
        if self.image_size is not None and self.image_size < 16:
            raise UsageError(f"image-size is {self.image_size}; it must be at least 16 pixels")
        if self.context_length is not None:
            self.check_context(self.context_length)
        counts = {
            "rounds": (self.rounds, 1),
            "steps-per-round": (self.steps_per_round, 0),
            "pgd-steps": (self.pgd_steps, 0),
        }
        for name, (value, least) in counts.items():
            if value is not None and value < least:
                raise UsageError(f"{name} is {value}; it must be at least {least}")

    def _check_patterns(self) -> None:
        if self.strength not in STRENGTHS:
            raise UsageError(f"strength {self.strength!r} is none of {', '.join(STRENGTHS)}")
        if self.texture is not None and not 0 <= self.texture <= 1:
            raise UsageError(f"texture is {self.texture}; it must be a share from 0 to 1")

    def check_context(self, tokens: int) -> None:
        """Raise UsageError where a model that reads ``tokens`` of a caption sees no more of it."""
        least = self.positions + 3
        if tokens < least:
            raise UsageError(
                f"the model reads {tokens} tokens of a caption, a trigger of {self.positions} "
                f"words needs at least {least}: pass --context-length, or fewer --trigger-words"
            )

    @property
    def published(self) -> bool:
        """Whether the settings left open are the paper's; a baseline has no others."""
        return self.schedule == "paper" or not get_method(self.method).has_design

    @property
    def positions(self) -> int:
        """Words of a trigger; 0 for a method without."""
        return self.trigger_words if get_method(self.method).has_triggers else 0

    @property
    def round_count(self) -> int:
        """Rounds, the default filled in (paper: 20)."""
        if self.rounds is not None:
            return self.rounds
        return get_method(self.method).published_rounds if self.published else 1

    @property
    def search_rounds(self) -> int:
        """Rounds in which triggers are searched, the default filled in (paper: 5 of 20)."""
        if self.schedule == "default" or not self.positions:
            return 0
        if self.hotflip_rounds is not None:
            return self.hotflip_rounds
        return math.ceil(self.round_count / 4)

    @property
    def visit_steps(self) -> int:
        """PGD steps a visit, the default filled in (paper: 8)."""
        if not get_method(self.method).alternates:
            return 0
        if self.pgd_steps is not None:
            return self.pgd_steps
        return get_method(self.method).published_steps if self.published else 0

    @property
    def round_steps(self) -> int:
        """Surrogate steps a round, the default filled in (paper: 200); few samples take fewer."""
        if self.steps_per_round is not None:
            return self.steps_per_round
        return 200 if self.published else 100

    @property
    def learning_rate(self) -> float:
        """AdamW learning rate, the default filled in (paper: 1e-4).

        A clean checkpoint is trained as a victim is, at 5e-4.
        """
        if self.lr is not None:
            return self.lr
        return 1e-4 if self.published and get_method(self.method).alternates else 5e-4


def check_views(kinds: Sequence[str]) -> None:
    """Raise UsageError for a name that is none of ``VIEW_KINDS``, or named twice."""
    for kind in kinds:
        if kind not in VIEW_KINDS:
            raise UsageError(f"views: {kind!r} is none of {', '.join(VIEW_KINDS)}")
    if len(set(kinds)) < len(kinds):
        raise UsageError("views: a name stands there twice")
