"""`fit`: a bounded, deterministic choice of samples, and the surrogate fitted on it."""

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from ..data import storage
from ..data.plan import resolve_input
from ..errors import UsageError
from ..method.config import ANY_WORD, FitConfig, FitOptions
from ..method.ensemble import fit_spec
from ..method.fit import fit_surrogate
from ..method.key import KEY_BYTES
from ..method.methods import get_method
from ..method.passes import Passes
from ..method.surrogate import Surrogate
from .again import refuse_protected
from .artifact import DESCRIPTION, load_surrogate, save_surrogate
from .checkpoint import Checkpoint
from .checks import check_caption_fields, check_least, choose_device
from .config import FitRunConfig
from .driver.progress import Progress
from .driver.stop import stop_on_signals
from .fit_samples import choose_samples
from .options import part_of
from .worker.shard_worker import fixed_threads

log = logging.getLogger(__name__)

DEFAULT_SAMPLES = 20_000
# A small model gains little from more, and others may want the cores.
_MOST_THREADS = 4


@dataclass(frozen=True)
class FitSummary:
    """The end of a fit.

    Attributes:
        output: URL of the surrogate artifact.
        sha256: names it in manifests.
        samples: samples it was fitted on.
        passed_over: samples that could not be used.
        kept: whether it was there already.
        rounds: rounds that `protect` replays.
        model_bytes: of their weights in the artifact.
        passes: forward+backward passes of a sample through each tower in the visits of the fit.
    """

    output: str
    sha256: str
    samples: int
    passed_over: int
    kept: bool = False
    rounds: int = 1
    model_bytes: int = 0
    passes: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        if self.kept:
            return f"{self.output}: surrogate {self.sha256[:12]} is there already and is kept"
        text = (
            f"{self.output}: surrogate {self.sha256[:12]} fitted on {self.samples} samples, "
            f"{self.passed_over} passed over; its weights take {self.model_bytes / 1e6:,.1f} MB"
        )
        if not any(self.passes.values()):
            return text
        return (
            f"{text}; protect replays {self.rounds} rounds, which take {Passes.told(self.passes)} "
            "a sample"
        )


def fit(config: FitRunConfig) -> FitSummary:
    """Fit a surrogate on samples of ``config.input`` and write it to ``config.output``.

    Raises:
        UsageError: the request cannot be carried out as written, or too few samples are usable.
        Interrupted: SIGINT or SIGTERM; no artifact was written. The same call goes on after the
            last whole round of the published schedule.
    """
    _check(config)
    settings = fit_settings(config)
    settings.validate()
    if _is_kept(config):
        return _kept(config, settings)
    shards = resolve_input(config.input)
    refuse_protected(config.input, shards, config.caption_fields, again=config.again)
    wanted = config.max_samples
    if wanted is None and config.schedule == "default":
        wanted = DEFAULT_SAMPLES
    spec = fit_spec(settings)
    with stop_on_signals():
        chosen = choose_samples(shards, config, spec.image_size, wanted)
        if len(chosen.picks) < 2:
            raise UsageError(
                f"{config.input} holds {len(chosen.picks)} usable samples; a fit needs at least 2"
            )
        images = torch.stack([pick.image for pick in chosen.picks])
        captions = [pick.captions for pick in chosen.picks]
        log.info("fitting on %d samples", len(images))
        threads = config.torch_threads or min(torch.get_num_threads(), _MOST_THREADS)
        kept = Checkpoint(config.output, images, captions, {**vars(settings), "threads": threads})
        with fixed_threads(threads), Progress(1, unit="step") as shown:
            surrogate = fit_surrogate(
                images, captions, settings, shown.reach, state=kept.load(), keep=kept.save
            )
        surrogate.settle_repeats([pick.digest for pick in chosen.picks], captions)
        surrogate.meta |= _choice_settings(config)
        sha256 = save_surrogate(surrogate, config.output)
        kept.remove()
    return FitSummary(
        config.output,
        sha256,
        len(images),
        chosen.passed_over,
        rounds=len(surrogate.sequence) // surrogate.models_a_round,
        model_bytes=surrogate.size,
        passes=_visit_passes(surrogate),
    )


def _is_kept(config: FitRunConfig) -> bool:
    """Whether a surrogate is at the output and stays. Raises UsageError where nobody said so."""
    if config.overwrite or not storage.exists(storage.join(config.output, DESCRIPTION)):
        return False
    if not config.keep:
        raise UsageError(
            f"{config.output} holds a surrogate; give another --output, --keep to use that one, "
            f"or --overwrite to replace it: copies that it protected need it"
        )
    return True


def _visit_passes(surrogate: Surrogate) -> dict[str, float]:
    """Return the passes of a sample through each tower in the visits of a fit."""
    meta = surrogate.meta
    return Passes.by_tower(
        {name: count / meta["samples"] for name, count in meta["visit_passes"].items()}
    )


def _check(config: FitRunConfig) -> None:
    """Refuse what no input could make right."""
    # A contrastive loss needs two samples at least.
    check_least(config, 2, "max_samples")
    check_least(config, 1, "max_pixels")
    check_least(config, 0, "torch_threads")
    check_caption_fields(config.caption_fields)
    if any(name.endswith(".tar") for name in storage.list_names(config.output)):
        raise UsageError(f"{config.output} holds shards; choose another folder for the surrogate")


def fit_settings(config: FitRunConfig) -> FitConfig:
    """Return the settings of the fit that ``config`` asks for."""
    options = vars(part_of(FitOptions, config))
    any_word = config.words == ANY_WORD
    return FitConfig(
        **options,
        device=choose_device(config.device),
        words=() if any_word else _listed_words(config),
        any_word=any_word,
        key=_read_key(config.key),
    )


def _read_key(url: str | None) -> str | None:
    """Read the key that a file holds. Raises UsageError for anything but 64 hex digits."""
    if url is None:
        return None
    try:
        found = storage.read_bytes(url).strip().lower()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise UsageError(f"key: there is no file {url}") from None
    if not re.fullmatch(rb"[0-9a-f]{%d}" % (2 * KEY_BYTES), found):
        raise UsageError(
            f"key: {url} does not hold {2 * KEY_BYTES} hexadecimal digits; make one with "
            f"`openssl rand -hex {KEY_BYTES}`, or copy `key` of another surrogate's {DESCRIPTION}"
        )
    return found.decode()


def _listed_words(config: FitRunConfig) -> tuple[tuple[str, ...], ...]:
    """Read the user's lists of trigger words. Raises UsageError for what cannot be used."""
    if config.words is None:
        return ()
    if not get_method(config.method).has_triggers:
        raise UsageError(f"method {config.method} sets no trigger; leave words out")
    try:
        text = storage.read_bytes(config.words).decode()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise UsageError(f"words: there is no file {config.words}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"words: {config.words} is not UTF-8 text ({error})") from error
    found = [tuple(part.split()) for part in re.split(r"\n\s*\n", text)]
    lists = tuple(words for words in found if words)
    if not lists:
        raise UsageError(f"words: {config.words} is empty; write one word a line")
    if len(lists) > config.trigger_words:
        raise UsageError(
            f"words: {config.words} holds {len(lists)} lists, with blank lines between them, for "
            f"{config.trigger_words} trigger words; write at most one a word"
        )
    return lists


def _choice_settings(config: FitRunConfig) -> dict[str, Any]:
    return {
        "input": config.input,
        "input_seed": config.seed,
        "max_samples": config.max_samples,
        "caption_fields": list(config.caption_fields),
    }


def _kept(config: FitRunConfig, settings: FitConfig) -> FitSummary:
    """Return the end of the fit that wrote what is at the output.

    Raises:
        UsageError: it is damaged, or was fitted with other settings.
    """
    return check_fitted(config.output, asked_settings(config, settings))


def asked_settings(config: FitRunConfig, settings: FitConfig) -> dict[str, object]:
    """Return the settings that a surrogate must have been fitted with to be the one asked for."""
    asked = _choice_settings(config) | vars(settings)
    # Where it is fitted is no setting of what is fitted; what is unset is chosen by the fit.
    free = ("topics", "key", "steps_per_round")
    chosen = {name for name in free if vars(settings)[name] is None}
    return {name: asked[name] for name in asked.keys() - chosen - {"device"}}


def check_fitted(url: str, asked: Mapping[str, object]) -> FitSummary:
    """Return the end of the fit that wrote the surrogate at ``url``.

    Args:
        url: of its folder.
        asked: settings by name that it must have been fitted with.

    Raises:
        UsageError: it is damaged, or was fitted with other settings.
    """
    surrogate, sha256 = load_surrogate(url)
    found = surrogate.meta | surrogate.meta["fit"]
    for name in sorted(asked):
        if name in found and json.dumps(found[name]) != json.dumps(asked[name]):
            # A key is secret, and a log is not.
            then, now = ("another one",) * 2 if name == "key" else (found[name], asked[name])
            raise UsageError(
                f"{url} holds a surrogate that was fitted with {name} {then!r}, this run has "
                f"{now!r}; fit to another folder, or replace it by --overwrite"
            )
    return FitSummary(url, sha256, int(found["samples"]), 0, kept=True)
