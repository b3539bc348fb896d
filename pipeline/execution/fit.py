"""`fit`: a bounded, deterministic choice of samples, and the surrogate fitted on it."""

import heapq
import json
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..data import storage
from ..data.captions import read_captions
from ..data.images import decode, fit_square, image_member
from ..data.plan import ShardInput, resolve_input
from ..data.shards import Sample, open_shard
from ..errors import SampleError, ShardError, UsageError
from ..method.config import FitConfig, FitOptions
from ..method.ensemble import fit_spec
from ..method.fit import fit_surrogate
from ..method.methods import get_method
from ..seeds import derive_seed
from .artifact import DESCRIPTION, load_surrogate, save_surrogate
from .checkpoint import Checkpoint
from .checks import check_caption_fields, check_least, choose_device
from .config import FitRunConfig
from .driver.stop import stop_on_signals
from .options import part_of
from .worker.shard_worker import fixed_threads

log = logging.getLogger(__name__)

DEFAULT_SAMPLES = 20_000
# Shards are read in an order drawn by hash until they held this many times the samples wanted: the
# choice stays spread out, and a large corpus is not read whole.
_OVERSAMPLE = 4


@dataclass(frozen=True)
class FitSummary:
    """The end of a fit.

    Attributes:
        output: URL of the surrogate artifact.
        sha256: names it in manifests.
        samples: samples it was fitted on.
        passed_over: samples that could not be used.
        kept: whether it was there already.
    """

    output: str
    sha256: str
    samples: int
    passed_over: int
    kept: bool = False

    def __str__(self) -> str:
        if self.kept:
            return f"{self.output}: surrogate {self.sha256[:12]} is there already and is kept"
        return (
            f"{self.output}: surrogate {self.sha256[:12]} fitted on {self.samples} samples, "
            f"{self.passed_over} passed over"
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
    if config.keep and storage.exists(storage.join(config.output, DESCRIPTION)):
        return _kept(config, settings)
    shards = resolve_input(config.input)
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
        threads = config.torch_threads or torch.get_num_threads()
        kept = Checkpoint(config.output, images, captions, {**vars(settings), "threads": threads})
        with fixed_threads(threads):
            surrogate = fit_surrogate(
                images, captions, settings, _log_progress, state=kept.load(), keep=kept.save
            )
        surrogate.meta |= _choice_settings(config)
        sha256 = save_surrogate(surrogate, config.output)
        kept.remove()
    return FitSummary(config.output, sha256, len(images), chosen.passed_over)


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
    return FitConfig(**options, device=choose_device(config.device), words=_listed_words(config))


def _listed_words(config: FitRunConfig) -> tuple[tuple[str, ...], ...]:
    """Read the user's lists of trigger words. Raises UsageError for what cannot be used."""
    if config.words is None:
        return ()
    if config.schedule != "default" or not get_method(config.method).has_design:
        raise UsageError("words is for method mem with the default schedule; leave it out")
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
    surrogate, sha256 = load_surrogate(config.output)
    asked = _choice_settings(config) | vars(settings) | {"blocklist": sorted(settings.blocklist)}
    found = surrogate.meta | surrogate.meta["fit"]
    # Where it is fitted is no setting of what is fitted; what is unset is chosen by the fit.
    chosen = {name for name in ("texture", "topics") if vars(settings)[name] is None}
    left_out = {"device"} | chosen
    for name in sorted(asked.keys() - left_out):
        if name in found and json.dumps(found[name]) != json.dumps(asked[name]):
            raise UsageError(
                f"{config.output} holds a surrogate that was fitted with {name} {found[name]!r}, "
                f"this run has {asked[name]!r}; fit to another --output, or leave --keep out to "
                f"replace it"
            )
    return FitSummary(config.output, sha256, int(found["samples"]), 0, kept=True)


@dataclass(frozen=True, order=True)
class _Pick:
    """A chosen sample; the heap keeps those of the smallest hashes, hence the minus."""

    minus_hash: int
    shard: str
    row: int
    image: Tensor = field(compare=False)
    captions: list[str] = field(compare=False)


@dataclass
class Choice:
    """The chosen samples in shard order, and how many were unusable."""

    picks: list[_Pick] = field(default_factory=list)
    passed_over: int = 0


def choose_samples(
    shards: Sequence[ShardInput], config: FitRunConfig, side: int, wanted: int | None
) -> Choice:
    """Choose up to ``wanted`` samples by hash of (seed, shard, key), holding no others in memory.

    Args:
        shards: the corpus.
        config: seed, caption fields and limits.
        side: samples are kept as uint8 [3, side, side].
        wanted: None takes all.
    """
    choice = Choice()
    seen = 0
    for shard in sorted(shards, key=lambda s: derive_seed(config.seed, "shard", s.name)):
        if wanted is not None and seen >= _OVERSAMPLE * wanted:
            break
        for sample in _samples(shard):
            seen += 1
            minus_hash = -derive_seed(config.seed, "sample", shard.name, sample.key)
            if len(choice.picks) == wanted and minus_hash <= choice.picks[0].minus_hash:
                continue
            try:
                image, captions = _load(sample, config, side)
            except SampleError as error:
                place = "" if sample.key in str(error) else f"{sample.key}: "
                log.warning("passed over: %s: %s%s", shard.url, place, error)
                choice.passed_over += 1
                continue
            pick = _Pick(minus_hash, shard.name, sample.row, image, captions)
            push = heapq.heappush if len(choice.picks) != wanted else heapq.heapreplace
            push(choice.picks, pick)
    choice.picks.sort(key=lambda pick: (pick.shard, pick.row))
    return choice


def _samples(shard: ShardInput) -> Iterator[Sample]:
    """Yield the samples of ``shard`` as far as it is readable: for a fit a part will do."""
    try:
        with open_shard(shard.url) as reader:
            yield from reader
    except ShardError as error:
        log.warning("shard passed over: %s", error)


def _load(sample: Sample, config: FitRunConfig, side: int) -> tuple[Tensor, list[str]]:
    captions = read_captions(sample, config.caption_fields)
    pixels = fit_square(decode(image_member(sample).data, config.max_pixels).pixels, side)
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy()), captions


def _log_progress(phase: str, done: int, total: int) -> None:
    log.info("%s: round %d of %d", phase, done, total)
