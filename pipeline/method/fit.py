"""Fit: MEM's alternation on a bounded set of samples (``default``) or as published (``paper``)."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
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
    unread, passes = None, Passes()
    # Trainings of equal length: on clean pairs where that decides, and one for each texture.
    fits = len(_textures(config))
    parts = _parts(progress, fits + (config.topics is None))
    if config.topics is None:
        unread = _clean_loss(images, texts, config, next(parts), passes)
        config = dataclasses.replace(config, topics=unread > _UNREAD)
    surrogate = _fit_soonest_read(images, texts, config, parts, passes)
    surrogate.meta |= {"clean_loss": unread, "passes": passes.as_dict()}
    return surrogate


def _parts(progress: Progress | None, count: int) -> Iterator[Progress | None]:
    """Yield what each of ``count`` trainings of equal length calls; together they are one."""
    for number in range(count):
        yield None if progress is None else partial(_tell, progress, number, count)


def _tell(progress: Progress, number: int, count: int, done: int, total: int, loss: float) -> None:
    progress(number * total + done, count * total, loss)


def _textures(config: FitConfig) -> tuple[float, ...]:
    return TEXTURES if config.texture is None else (config.texture,)


def _clean_loss(
    images: Tensor,
    captions: Captions,
    config: FitConfig,
    progress: Progress | None,
    passes: Passes,
) -> float:
    """Return the loss of a fit on clean pairs that it has not seen, as a share of a guess's."""
    rows = range(len(images))
    seen, held = [i for i in rows if i % _HELD_OUT], rows[::_HELD_OUT]
    if len(held) < 2:
        return 1.0
    steps = config.round_count * config.round_steps
    # The fit of TAP is plain training on clean pairs.
    settings = dataclasses.replace(config, method="tap", rounds=1, steps_per_round=steps)
    trial = Rounds(images[seen], captions.of(seen), settings)
    trial.run(progress)
    passes.add(trial.passes)
    return share_of_guess(
        next(trial.ensemble.turns()),
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
    parts: Iterator[Progress | None],
    passes: Passes,
) -> Surrogate:
    """Fit once with each texture and keep the fit whose training loss was lowest on average.

    On drawings plain casts are read sooner, on photographs gratings; what a model reads sooner
    from the start is what protects (docs/results). A draw goes to the gratings.
    """
    trials: dict[float, Surrogate] = {}
    for texture in _textures(config):
        trial = Rounds(images, captions, dataclasses.replace(config, texture=texture))
        trials[texture] = trial.run(next(parts))
        passes.add(trial.passes)
    losses = {texture: fmean(trial.meta["curve"]) for texture, trial in trials.items()}
    chosen = trials[soonest_read(losses)]
    if config.texture is None:
        chosen.meta["texture_losses"] = {str(texture): loss for texture, loss in losses.items()}
    return chosen


def soonest_read(losses: Mapping[float, float]) -> float:
    """Return the texture of the lowest training loss; of those that draw with it the largest."""
    lowest = min(losses.values())
    return max(texture for texture, loss in losses.items() if loss <= lowest * (1 + _DRAW))
