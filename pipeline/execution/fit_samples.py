"""The samples that a fit sees: a bounded choice by hash, read a shard at a time."""

import heapq
import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import islice

from torch import Tensor

from ...kernels.planes import take_apart
from ..data.captions import read_captions
from ..data.formats import written_format
from ..data.images import decode, fit_square, image_member
from ..data.plan import ShardInput
from ..data.shards import Sample, open_shard
from ..errors import SampleError, ShardError
from ..method.surrogate import image_digest
from ..seeds import derive_seed
from .config import FitRunConfig
from .worker.told_once import ToldOnce

log = logging.getLogger(__name__)

# Shards are read in an order drawn by hash until they held this many times the samples wanted: the
# choice stays spread out, and a large corpus is not read whole.
_OVERSAMPLE = 4
# Samples that are decoded together; a photograph takes some megabytes as it comes.
_READ_AHEAD = 8
# Threads that decode; others may want the cores.
_MOST_THREADS = 4


@dataclass(frozen=True, order=True)
class _Pick:
    """A chosen sample; the heap keeps those of the smallest hashes, hence the minus."""

    minus_hash: int
    shard: str
    row: int
    image: Tensor = field(compare=False)
    digest: str = field(compare=False)
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
    load = partial(_load, config=config, side=side)
    with ThreadPoolExecutor(min(os.cpu_count() or 1, _MOST_THREADS)) as pool:
        for shard in sorted(shards, key=lambda s: derive_seed(config.seed, "shard", s.name)):
            if wanted is not None and seen >= _OVERSAMPLE * wanted:
                break
            told = ToldOnce(shard.name, "passed over")
            samples = _samples(shard)
            while group := list(islice(samples, _READ_AHEAD)):
                seen += len(group)
                ranked = [
                    (-derive_seed(config.seed, "sample", shard.name, sample.key), sample)
                    for sample in group
                ]
                if len(choice.picks) == wanted:
                    least = choice.picks[0].minus_hash
                    ranked = [(rank, sample) for rank, sample in ranked if rank > least]
                loaded = pool.map(load, [sample for _, sample in ranked])
                for (minus_hash, sample), found in zip(ranked, loaded, strict=True):
                    if isinstance(found, SampleError):
                        told.add(sample.key, found)
                        choice.passed_over += 1
                        continue
                    pick = _Pick(minus_hash, shard.name, sample.row, *found)
                    push = heapq.heappush if len(choice.picks) != wanted else heapq.heappushpop
                    push(choice.picks, pick)
            told.tell()
    choice.picks.sort(key=lambda pick: (pick.shard, pick.row))
    return choice


def _samples(shard: ShardInput) -> Iterator[Sample]:
    """Yield the samples of ``shard`` as far as it is readable: for a fit a part will do."""
    try:
        with open_shard(shard.url) as reader:
            yield from reader
    except ShardError as error:
        log.warning("shard passed over: %s", error)


def _load(
    sample: Sample, config: FitRunConfig, side: int
) -> tuple[Tensor, str, list[str]] | SampleError:
    """Return the square, digest and captions of a sample, or why it cannot be used."""
    try:
        captions = read_captions(sample, config.caption_fields)
        picture = decode(image_member(sample, several=True).data, config.max_pixels)
    except SampleError as error:
        return error
    square = fit_square(picture.pixels, side)
    whole = picture.for_format(written_format(picture.source_format, "same"))
    return take_apart(square), image_digest(take_apart(whole)), captions
