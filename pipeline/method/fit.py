"""Fit: MEM's alternation on a bounded set of samples (``default``) or as published (``paper``)."""

import dataclasses
import math
from collections.abc import Callable, Sequence

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

# Steps of a trial on clean pairs, after which drawings are read and photographs are not
# (docs/results/bench.md).
_TRIAL_STEPS = 30
# Share of a guess's loss above which a trial has read little of the pictures.
_UNREAD = 0.75
# One sample in so many is kept from the trial.
_HELD_OUT = 8
# Passes over the samples after which a model knows a small corpus by heart.
_PASSES = 20


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
    trial = min(_TRIAL_STEPS, config.round_steps) if config.topics is None else 0
    total, unread, passes = trial + config.round_count * config.round_steps, None, Passes()
    if config.topics is None:
        unread = _clean_loss(images, texts, config, trial, _after(progress, 0, total), passes)
        # Pictures that a model reads soon are drawings: there chance chooses the words.
        config = dataclasses.replace(config, topics=unread > _UNREAD)
    fitted = Rounds(images, texts, config)
    surrogate = fitted.run(_after(progress, trial, total))
    passes.add(fitted.passes)
    surrogate.meta |= {"clean_loss": unread, "passes": passes.as_dict()}
    return surrogate


def _after(progress: Progress | None, before: int, total: int) -> Progress | None:
    """Return what tells the steps of a training as some of ``total``."""
    if progress is None:
        return None
    return lambda done, _, loss: progress(before + done, total, loss)


def _clean_loss(
    images: Tensor,
    captions: Captions,
    config: FitConfig,
    steps: int,
    progress: Progress | None,
    passes: Passes,
) -> float:
    """Return the loss after some steps on clean pairs, on others, as a share of a guess's."""
    rows = range(len(images))
    seen, held = [i for i in rows if i % _HELD_OUT], rows[::_HELD_OUT]
    if len(held) < 2:
        return 1.0
    # The fit of TAP is plain training on clean pairs.
    settings = dataclasses.replace(config, method="tap", rounds=1, steps_per_round=steps)
    trial = Rounds(images[seen], captions.of(seen), settings)
    trial.run(progress)
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
