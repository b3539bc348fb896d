"""Settings of the method; each field is one option of the command line."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ..errors import UsageError

Method = Literal["mem", "em", "tap", "uap", "random"]
Part = Literal["both", "image", "text"]
Precision = Literal["auto", "fp32", "bf16"]

VIEW_KINDS = ("crop", "resize", "flip", "jpeg")
MAX_EPSILON = 64
PIXEL_BUDGET = 1 << 24
MAX_TRIGGER_WORDS = 16
MIN_EFFORT, MAX_EFFORT = 2, 64


@dataclass(frozen=True)
class MemConfig:
    """How one batch is protected.

    Attributes:
        method: ``mem``; the baselines ``em`` (error-minimising noise for images alone), ``tap``
            (noise towards another sample's caption, against a clean model) and ``uap`` (one
            perturbation for all); or ``random`` for the control (+-epsilon noise).
        epsilon: bound on the perturbation, 8-bit levels (paper: 8).
        step_size: size of one PGD step, 8-bit levels (paper: 1).
        steps: PGD steps against each surrogate of the replayed sequence; when None 8 as in the
            paper, 40 for ``tap``, and none where a designed code or a ``uap`` is laid.
        effort: forward+backward passes through the image tower that a sample may cost, 2 to 64;
            they go into the choice of words where a code is designed, into PGD steps elsewhere.
            The method's own steps when None.
        keep_code: PGD may shrink or grow a designed perturbation but never flip its sign.
        hotflip_candidates: words tried at each trigger position (paper: 16).
        shuffle: permute the captions inside the batch in each PGD step (paper: yes).
        views: random transformations (see ``VIEW_KINDS``) that PGD steps average over.
        pixel_budget: native pixels that are floats at once; a larger image is alone.
        part: what is published of a pair of perturbation and trigger: ``both``, or one of them
            for an ablation.
        precision: of the surrogate's passes; ``auto`` is ``bf16`` on a GPU and ``fp32`` elsewhere.
        compile: compile the surrogate, on a GPU.
    """

    method: Method = "mem"
    epsilon: int = 8
    step_size: int = 1
    steps: int | None = None
    effort: int | None = None
    keep_code: bool = True
    hotflip_candidates: int = 16
    shuffle: bool = True
    views: tuple[str, ...] = ()
    pixel_budget: int = PIXEL_BUDGET
    part: Part = "both"
    precision: Precision = "auto"
    compile: bool = False

    def validate(self) -> None:
        """Raise UsageError for settings outside their range."""
        if not 1 <= self.epsilon <= MAX_EPSILON:
            raise UsageError(f"epsilon is {self.epsilon}; it must be 1..{MAX_EPSILON} 8-bit levels")
        if self.part != "both" and self.method != "mem":
            raise UsageError(f"part is {self.part}; only method mem has two parts to choose from")
        if self.step_size < 1 or (self.steps or 0) < 0 or self.hotflip_candidates < 1:
            raise UsageError("step-size and hotflip-candidates must be >= 1, steps >= 0")
        if self.pixel_budget < 1:
            raise UsageError(f"pixel-budget is {self.pixel_budget}; it must be at least 1")
        check_views(self.views)
        if self.effort is not None:
            self._check_effort(self.effort)

    def _check_effort(self, effort: int) -> None:
        if not MIN_EFFORT <= effort <= MAX_EFFORT:
            raise UsageError(
                f"effort is {effort}; it must be {MIN_EFFORT}..{MAX_EFFORT} passes a sample"
            )
        if self.steps is not None:
            raise UsageError("steps and effort both tell how many passes to take; give one of them")
        if self.method in ("random", "uap"):
            raise UsageError(
                f"method {self.method} takes no passes that effort could add to; leave it out"
            )


@dataclass(frozen=True)
class FitConfig:
    """How a surrogate is fitted (DESIGN section 2 and 3).

    Attributes:
        method: ``mem`` or a baseline: ``em`` alternates as published but leaves captions alone,
            ``tap`` and ``uap`` train on clean pairs.
        schedule: ``default`` starts perturbations from the code of their trigger words;
            ``paper`` is the published alternation over all given samples.
        model: ``tiny`` or any open_clip architecture, or several with commas, which take turns.
        image_size: model input side, pixels; the model's own where None.
        context_length: caption tokens; the model's own where None.
        trigger_words: words in front of a caption (MEM-3: 3, MEM-5: 5).
        vocabulary: words of a trigger position that owns a pattern (default schedule).
        coded_words: leading trigger positions that own a pattern; the others are decoys.
        topics: what captions say chooses the words of coded positions, so that the pattern is tied
            to the captions' own words too; chance does otherwise (default schedule). When None fit
            tries how soon its model reads the pictures themselves: where that is late, topics.
        texture: share of a grating's period in which the colour cast of a pattern is inverted, in
            quarters; 0 leaves the cast plain. When None fit tries 0 and 0.5 and keeps what its
            model reads sooner.
        decoys: words a decoy position draws from.
        rounds: rounds of the alternation; the schedule's own where None.
        steps_per_round: AdamW steps of the surrogate in each round; the schedule's own where None.
        batch_size: samples a batch.
        lr: AdamW learning rate; the schedule's own where None.
        weight_decay: AdamW weight decay.
        epsilon: bound during fit, 8-bit levels.
        step_size: PGD step, 8-bit levels.
        pgd_steps: PGD steps a visit; when None 8 in the paper schedule, else none.
        hotflip_rounds: first rounds in which triggers are searched (paper schedule); when None a
            quarter of the rounds (paper: 5 of 20).
        hotflip_candidates: words tried at each trigger position.
        shuffle: permute captions in each PGD step.
        views: random transformations (see ``VIEW_KINDS``) that the surrogate is trained on and that
            PGD steps average over.
        blocklist: words never used in a trigger.
        words: the only words that a trigger may use, a list a position, the last one for all that
            follow (default schedule); when empty the captions' own most frequent ones.
        word_floor: captions that must use a word before a trigger does (default schedule).
        device: torch device.
        seed: of everything random.
    """

    method: Literal["mem", "em", "tap", "uap"] = "mem"
    schedule: Literal["default", "paper"] = "default"
    model: str = "tiny"
    image_size: int | None = None
    context_length: int | None = None
    trigger_words: int = 7
    vocabulary: int = 8
    coded_words: int = 3
    topics: bool | None = None
    texture: float | None = None
    decoys: int = 64
    rounds: int | None = None
    steps_per_round: int | None = None
    batch_size: int = 128
    lr: float | None = None
    weight_decay: float = 0.2
    epsilon: int = 8
    step_size: int = 1
    pgd_steps: int | None = None
    hotflip_rounds: int | None = None
    hotflip_candidates: int = 16
    shuffle: bool = True
    views: tuple[str, ...] = ()
    blocklist: tuple[str, ...] = ()
    words: tuple[tuple[str, ...], ...] = ()
    word_floor: int = 1
    device: str = "cpu"
    seed: int = 0

    def validate(self) -> None:
        """Raise UsageError for settings outside their range."""
        if not 1 <= self.trigger_words <= MAX_TRIGGER_WORDS:
            raise UsageError(
                f"trigger-words is {self.trigger_words}; it must be 1..{MAX_TRIGGER_WORDS}"
            )
        if not 1 <= self.epsilon <= MAX_EPSILON:
            raise UsageError(f"epsilon is {self.epsilon}; it must be 1..{MAX_EPSILON} 8-bit levels")
        if self.batch_size < 2 or self.vocabulary < 2 or self.coded_words < 1:
            raise UsageError("batch-size and vocabulary must be >= 2, coded-words >= 1")
        check_views(self.views)
        if self.texture is not None and not 0 <= self.texture <= 1:
            raise UsageError(f"texture is {self.texture}; it must be a share from 0 to 1")
        if self.image_size is not None and self.image_size < 16:
            raise UsageError(f"image-size is {self.image_size}; it must be at least 16 pixels")
        if self.context_length is not None:
            self.check_context(self.context_length)
        counts = {
            "rounds": (self.rounds, 1),
            "steps-per-round": (self.steps_per_round, 0),
            "pgd-steps": (self.pgd_steps, 0),
            "word-floor": (self.word_floor, 1),
        }
        for name, (value, least) in counts.items():
            if value is not None and value < least:
                raise UsageError(f"{name} is {value}; it must be at least {least}")

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
        return self.schedule == "paper" or self.method != "mem"

    @property
    def positions(self) -> int:
        """Words of a trigger; 0 for a baseline."""
        return self.trigger_words if self.method == "mem" else 0

    @property
    def round_count(self) -> int:
        """Rounds, the default filled in (paper: 20)."""
        if self.rounds is not None:
            return self.rounds
        return 20 if self.published else 1

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
        if self.method in ("tap", "uap"):
            return 0
        if self.pgd_steps is not None:
            return self.pgd_steps
        return 8 if self.published else 0

    @property
    def round_steps(self) -> int:
        """Surrogate steps a round, the default filled in (paper: 200)."""
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
        return 1e-4 if self.published and self.method in ("mem", "em") else 5e-4


def check_views(kinds: Sequence[str]) -> None:
    """Raise UsageError for a name that is none of ``VIEW_KINDS``, or named twice."""
    for kind in kinds:
        if kind not in VIEW_KINDS:
            raise UsageError(f"views: {kind!r} is none of {', '.join(VIEW_KINDS)}")
    if len(set(kinds)) < len(kinds):
        raise UsageError("views: a name stands there twice")
