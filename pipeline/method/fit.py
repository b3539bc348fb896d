"""Fit: MEM's alternation on a bounded set of samples (``default``) or as published (``paper``)."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from torch import Tensor

from .captions import Captions
from .clean_probe import share_of_guess
from .config import FitConfig
from .ensemble import fit_spec
from .key import new_key
from .models import get_tokenizer
from .passes import Passes
from .patterns import TEXTURES
from .rounds import Progress, Rounds, State
from .surrogate import Surrogate

# Steps of a trial, and how many of them at its end tell textures apart; before those, all models
# guess.
_TRIAL_STEPS, _TOLD_APART = 30, 10
# Passes over the samples after which a model knows a small corpus by heart.
_PASSES = 20
# Share of a guess's loss above which a trial on clean pairs has read little of the pictures.
_UNREAD = 0.75
# One sample in so many is kept from the trial.
_HELD_OUT = 8
# Losses of textures that differ by less, as a share, are a draw: plain casts wrongly taken cost a
# copy of photographs more than gratings wrongly taken cost one of drawings (docs/results).
_DRAW = 0.01


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
    textures = TEXTURES if config.texture is None else (config.texture,)
    trials = (len(textures) - 1) + (config.topics is None)
    told = _Told(progress, config.round_count * config.round_steps + trials * _trial_steps(config))
    if config.topics is None:
        unread = _clean_loss(images, texts, config, told, passes)
        config = dataclasses.replace(config, topics=unread > _UNREAD)
    surrogate = _fit_soonest_read(images, texts, config, textures, told, passes)
    surrogate.meta |= {"clean_loss": unread, "passes": passes.as_dict()}
    return surrogate


def _trial_steps(config: FitConfig) -> int:
    return min(_TRIAL_STEPS, config.round_steps)


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
    told: _Told,
    passes: Passes,
) -> float:
    """Return the loss of a fit on clean pairs that it has not seen, as a share of a guess's."""
    rows = range(len(images))
    seen, held = [i for i in rows if i % _HELD_OUT], rows[::_HELD_OUT]
    steps = _trial_steps(config)
    if len(held) < 2:
        told.before += steps
        return 1.0
    # The fit of TAP is plain training on clean pairs.
    trial = Rounds(images[seen], captions.of(seen), dataclasses.replace(config, method="tap"))
    trial.start(steps, told)
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


def _fit_soonest_read(
    images: Tensor,
    captions: Captions,
    config: FitConfig,
    textures: Sequence[float],
    told: _Told,
    passes: Passes,
) -> Surrogate:
    """Begin a fit with each texture, and end the one whose loss fell soonest.

    On drawings plain casts are read sooner, on photographs gratings; what a model reads sooner
    from the start is what protects (docs/results). A draw goes to the gratings.
    """
    fits = {
        texture: Rounds(images, captions, dataclasses.replace(config, texture=texture))
        for texture in textures
    }
    losses, chosen, steps = {}, textures[0], _trial_steps(config)
    if len(fits) > 1:
        for texture, begun in fits.items():
            losses[texture] = fmean(begun.start(steps, told)[-_TOLD_APART:] or [0.0])
            told.before += steps
        told.before -= steps
        chosen = soonest_read(losses)
    best = fits.pop(chosen)
    while fits:
        passes.add(fits.popitem()[1].passes)
    surrogate = best.run(told)
    passes.add(best.passes)
    if losses:
        surrogate.meta["texture_losses"] = {str(name): loss for name, loss in losses.items()}
    return surrogate


def soonest_read(losses: Mapping[float, float]) -> float:
    """Return the texture of the lowest training loss; of those that draw with it the largest."""
    lowest = min(losses.values())
    return max(texture for texture, loss in losses.items() if loss <= lowest * (1 + _DRAW))
