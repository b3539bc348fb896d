"""Settings of the method; each field is one option of the command line."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from ..errors import UsageError

MAX_EPSILON = 64
MAX_TRIGGER_WORDS = 16


@dataclass(frozen=True)
class MemConfig:
    """How one batch is protected.

    Attributes:
        method: ``mem``, or ``random`` for the control (+-epsilon noise, captions unchanged).
        epsilon: bound on the perturbation, 8-bit levels (paper: 8).
        step_size: size of one PGD step, 8-bit levels (paper: 1).
        steps: PGD steps against each surrogate of the replayed sequence; when None 8 as in the
            paper, and none where a designed code is laid.
        keep_code: PGD may shrink or grow a designed perturbation but never flip its sign.
        hotflip_candidates: words tried at each trigger position (paper: 16).
        shuffle: permute the captions inside the batch in each PGD step (paper: yes).
    """

    method: Literal["mem", "random"] = "mem"
    epsilon: int = 8
    step_size: int = 1
    steps: int | None = None
    keep_code: bool = True
    hotflip_candidates: int = 16
    shuffle: bool = True

    def validate(self) -> None:
        """Raise UsageError for settings outside their range."""
        if not 1 <= self.epsilon <= MAX_EPSILON:
            raise UsageError(f"epsilon is {self.epsilon}; it must be 1..{MAX_EPSILON} 8-bit levels")
        if self.step_size < 1 or (self.steps or 0) < 0 or self.hotflip_candidates < 1:
            raise UsageError("step-size and hotflip-candidates must be >= 1, steps >= 0")


@dataclass(frozen=True)
class FitConfig:
    """How a surrogate is fitted (DESIGN section 2 and 3).

    Attributes:
        schedule: ``default`` starts perturbations from the code of their trigger words;
            ``paper`` is the published alternation over all given samples.
        model: ``tiny`` or any open_clip architecture.
        image_size: model input side, pixels; the model's own where None.
        context_length: caption tokens; the model's own where None.
        trigger_words: words in front of a caption (MEM-3: 3, MEM-5: 5).
        vocabulary: words of a trigger position that owns a pattern (default schedule).
        coded_words: leading trigger positions that own a pattern; the others are decoys.
        texture: share of a pattern's cells in which its colour cast is inverted; 0 leaves the cast
            plain.
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
        blocklist: words never used in a trigger.
        device: torch device.
        seed: of everything random.
    """

    schedule: Literal["default", "paper"] = "default"
    model: str = "tiny"
    image_size: int | None = None
    context_length: int | None = None
    trigger_words: int = 5
    vocabulary: int = 8
    coded_words: int = 3
    texture: float = 0.5
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
    blocklist: tuple[str, ...] = ()
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
        if not 0 <= self.texture <= 1:
            raise UsageError(f"texture is {self.texture}; it must be a share from 0 to 1")
        if self.image_size is not None and self.image_size < 16:
            raise UsageError(f"image-size is {self.image_size}; it must be at least 16 pixels")
        if self.context_length is not None and self.context_length < self.trigger_words + 3:
            raise UsageError(
                f"context-length is {self.context_length}; a trigger of {self.trigger_words} words "
                f"needs at least {self.trigger_words + 3}"
            )
        counts = {
            "rounds": (self.rounds, 1),
            "steps-per-round": (self.steps_per_round, 0),
            "pgd-steps": (self.pgd_steps, 0),
        }
        for name, (value, least) in counts.items():
            if value is not None and value < least:
                raise UsageError(f"{name} is {value}; it must be at least {least}")

    @property
    def round_count(self) -> int:
        """Rounds, the schedule's default filled in (paper: 20)."""
        return (
            self.rounds if self.rounds is not None else {"paper": 20, "default": 1}[self.schedule]
        )

    @property
    def search_rounds(self) -> int:
        """Rounds in which triggers are searched, the default filled in (paper: 5 of 20)."""
        if self.hotflip_rounds is not None:
            return self.hotflip_rounds
        return math.ceil(self.round_count / 4)

    @property
    def visit_steps(self) -> int:
        """PGD steps a visit, the schedule's default filled in (paper: 8)."""
        if self.pgd_steps is not None:
            return self.pgd_steps
        return {"paper": 8, "default": 0}[self.schedule]

    @property
    def round_steps(self) -> int:
        """Surrogate steps a round, the schedule's default filled in (paper: 200)."""
        if self.steps_per_round is not None:
            return self.steps_per_round
        return {"paper": 200, "default": 100}[self.schedule]

    @property
    def learning_rate(self) -> float:
        """AdamW learning rate, the schedule's default filled in (paper: 1e-4)."""
        return self.lr if self.lr is not None else {"paper": 1e-4, "default": 5e-4}[self.schedule]
