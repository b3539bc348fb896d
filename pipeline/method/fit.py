"""Fit: MEM's alternation on a bounded set of samples (``default``) or as published (``paper``)."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from .captions import Captions
from .clean_probe import share_of_guess
from .config import FitConfig
from .ensemble import fit_spec
from .key import new_key
from .models import get_tokenizer
from .passes import Passes
from .rounds import Progress, Rounds, State
from .surrogate import Surrogate

# Steps of the trial on clean pairs.
_TRIAL_STEPS = 30
# Passes over the samples after which a model knows a small corpus by heart.
_PASSES = 20
# Share of a guess's loss above which a trial on clean pairs has read little of the pictures.
_UNREAD = 0.75
# One sample in so many is kept from the trial.
_HELD_OUT = 8


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
        progress: called after each training step.
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
    spec = fit_spec(config)
    texts = Captions(captions, get_tokenizer(spec.name, spec.context_length))
    if config.published:
        return Rounds(images, texts, config).run(progress, state, keep)
    if config.key is None:
        config = dataclasses.replace(config, key=new_key().hex())
    if config.steps_per_round is None:
        most = math.ceil(_PASSES * max(1.0, len(images) / config.batch_size))
        steps = min(config.round_steps, most)
        config = dataclasses.replace(config, steps_per_round=steps)
    unread, passes = None, Passes()
    trial_steps = min(_TRIAL_STEPS, config.round_steps) if config.topics is None else 0
    told = _Told(progress, config.round_count * config.round_steps + trial_steps)
    if config.topics is None:
        unread = _clean_loss(images, texts, config, trial_steps, told, passes)
        config = dataclasses.replace(config, topics=unread > _UNREAD)
    fit = Rounds(images, texts, config)
    surrogate = fit.run(told)
    passes.add(fit.passes)
    surrogate.meta |= {"clean_loss": unread, "passes": passes.as_dict()}
    return surrogate


@dataclass
class _Told:
    """Tells the steps of several trainings as those of one.

    Attributes:
        progress: is told.
        total: steps of all trainings.
        before: steps of those that ended.
    """

    progress: Progress | None
    total: int
    before: int = 0

    def __call__(self, done: int, _: int, loss: float) -> None:
        if self.progress is not None:
            self.progress(self.before + done, self.total, loss)


def _clean_loss(
    images: Tensor,
    captions: Captions,
    config: FitConfig,
    steps: int,
    told: _Told,
    passes: Passes,
) -> float:
    """Return the loss of a fit on clean pairs that it has not seen, as a share of a guess's."""
    rows = range(len(images))
    seen, held = [i for i in rows if i % _HELD_OUT], rows[::_HELD_OUT]
    if len(held) < 2:
        told.before += steps
        return 1.0
    # The fit of TAP is plain training on clean pairs.
    plain = dataclasses.replace(config, method="tap", rounds=1, steps_per_round=steps)
    trial = Rounds(images[seen], captions.of(seen), plain)
    trial.run(told)
    told.before += steps
    passes.add(trial.passes)
    # In training mode: so early a model's running means lag behind what its layers put out.
    [(model, _), *_] = trial.ensemble.training()
    return share_of_guess(
        model,
        trial.spec,
        images[::_HELD_OUT],
        captions.firsts(held),
        config.batch_size,
        config.device,
        passes,
    )
