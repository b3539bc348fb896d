"""A smaller copy of a corpus: square pictures for small benches."""

import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

from ..errors import SampleError, UsageError
from . import storage
from .corpora.writing import refuse_existing, staged
from .images import (
    decode,
    encode,
    fit_square,
    image_member,
    output_ext,
    replace_image,
    written_format,
)
from .metadata import Metadata
from .plan import ShardInput, resolve_input
from .shards import Sample, ShardReader, ShardWriter, open_shard

_CHUNK = 32

log = logging.getLogger(__name__)


def resize_corpus(url: str, out: str, size: int = 64, image_format: str = "png") -> int:
    """Write every shard at ``url`` to ``out`` with its pictures at ``size`` x ``size`` pixels.

    Names, keys, order and all members but the images stay as they are. A picture is decoded as
    everywhere (upright, alpha over white) and goes through the transform of the victims.

    Args:
        url: input shards, as for a run.
        out: folder URL, empty or new, outside the input.
        size: side in pixels, 16 to 2048.
        image_format: ``png``, ``webp``, ``jpeg`` or ``same``.

    Returns:
        The number of samples.

    Raises:
        UsageError: arguments out of range, ``out`` in use or inside the input, a sample without
            exactly one readable image (shard and key are named); nothing is left in ``out``.
        ShardError: a shard that cannot be read to its end.
    """
    if not 16 <= size <= 2048:
        raise UsageError(f"size must be between 16 and 2048 pixels, not {size}")
    written_format("png", image_format)
    shards = resolve_input(url)
    for folder_url in {shard.url.rsplit("/", 1)[0] or "/" for shard in shards}:
        if storage.is_inside(out, folder_url):
            raise UsageError(f"{out} is inside the input {folder_url}; choose a folder outside it")
    refuse_existing(out)
    count = 0
    with staged(out) as folder, ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        for shard in shards:
            change = partial(_resize, shard=shard, size=size, image_format=image_format)
            with (
                TemporaryDirectory() as passed,
                open_shard(shard.url, folder=Path(passed)) as reader,
                ShardWriter(folder / f"{shard.name}.tar") as tar,
            ):
                for chunk in _chunks(reader):
                    for sample in pool.map(change, chunk):
                        tar.write(sample)
                    count += len(chunk)
            log.info("%s: %d samples so far", shard.name, count)
    return count


def _resize(sample: Sample, shard: ShardInput, size: int, image_format: str) -> Sample:
    try:
        source = image_member(sample)
        found = decode(source.data)
        ext = output_ext(source.ext, found.source_format, image_format)
        fmt = written_format(found.source_format, image_format)
        small = fit_square(found.pixels, size)
    except SampleError as error:
        told = str(error).removeprefix(f"{sample.key}: ")
        raise UsageError(
            f"{shard.url}: {sample.key}: {told}; mend the sample or take it out"
        ) from error
    data = encode(small, fmt, None, Metadata(icc=found.kept.icc))
    return replace(sample, members=replace_image(sample.members, source, data, ext))


def _chunks(reader: ShardReader) -> Iterator[list[Sample]]:
    samples = iter(reader)
    while chunk := list(islice(samples, _CHUNK)):
        yield chunk
