"""Image-caption pairs as a victim reads them: decoded once, at its size, in a mapped file."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import numpy.typing as npt

from ..data.captions import read_captions
from ..data.images import decode, fit_square, image_member
from ..data.plan import ShardInput, resolve_input
from ..data.shards import Sample, open_shard
from ..errors import SampleError, UsageError

Pixels = npt.NDArray[np.uint8]

ImageAttack = Callable[[Pixels, int], Pixels]
"""What someone does to a published picture before training on it.

Takes the decoded image (uint8 [H, W, 3]) and its sample's position in the corpus. Applied to the
corpora that victims train on, never to the test set.
"""

_Numbered = tuple[int, tuple[str, Sample]]

_CHUNK = 64
_BLOCK = 256


@dataclass(frozen=True)
class Pairs:
    """A decoded corpus, cheap to send to another process.

    Attributes:
        path: raw file of uint8 pixels [N, size, size, 3]: N * size * size * 3 bytes on disk, which
            the operating system keeps in memory as far as there is room.
        size: side of the square images, pixels.
        captions: the captions of each image, at least one.
        keys: shard and key of each sample, which name it in every copy of the corpus.
        skipped: samples that could not be read.
    """

    path: str
    size: int
    captions: list[list[str]]
    keys: list[str]
    skipped: int

    def __len__(self) -> int:
        return len(self.captions)

    def images(self) -> Pixels:
        """Map the pixels, read-only, uint8 [N, size, size, 3]."""
        shape = (len(self), self.size, self.size, 3)
        return np.memmap(self.path, dtype=np.uint8, mode="r", shape=shape)


def load_pairs(
    url: str,
    size: int,
    path: str,
    *,
    fields: Sequence[str],
    max_pixels: int,
    attack: ImageAttack | None = None,
) -> Pairs:
    """Decode the shards at ``url`` into the raw file ``path``, a few dozen samples at a time.

    Raises:
        UsageError: no shard there, or no readable sample in them.
        ShardError: a shard that cannot be read to its end.
    """
    captions: list[list[str]] = []
    keys: list[str] = []
    skipped = 0
    numbered = enumerate(_samples(resolve_input(url)))

    def prepare(place: _Numbered) -> tuple[bytes, list[str], str] | None:
        row, (shard, sample) = place
        try:
            texts, image = read_captions(sample, fields), image_member(sample, several=True)
            pixels = decode(image.data, max_pixels).pixels
        except SampleError:
            return None
        if attack is not None:
            pixels = attack(pixels, row)
        return fit_square(pixels, size).tobytes(), texts, f"{shard}/{sample.key}"

    with open(path, "wb") as file, ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        for found in (one for chunk in _chunks(numbered) for one in pool.map(prepare, chunk)):
            if found is None:
                skipped += 1
                continue
            file.write(found[0])
            captions.append(found[1])
            keys.append(found[2])
    if not captions:
        raise UsageError(f"{url}: none of its {skipped} samples has a readable image and caption")
    return Pairs(path, size, captions, keys, skipped)


def pictures(url: str, max_pixels: int) -> Iterator[Pixels]:
    """Yield the readable pictures of the shards at ``url``, uint8 [H, W, 3], at their own size."""
    for _, sample in _samples(resolve_input(url)):
        with suppress(SampleError):
            yield decode(image_member(sample).data, max_pixels).pixels


def blocks(pairs: Pairs) -> Iterator[tuple[npt.NDArray[np.int64], Pixels]]:
    """Yield row numbers, int64 [n], and pixels, uint8 [n, S, S, 3], a few hundred at a time."""
    images = pairs.images()
    for start in range(0, len(pairs), _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, len(pairs)))
        yield rows, images[rows]


def with_pixels(
    pairs: Pairs,
    path: str,
    pixels: Iterable[Pixels],
    *,
    captions: list[list[str]] | None = None,
    keys: list[str] | None = None,
) -> Pairs:
    """Write blocks of pixels, uint8 [n, S, S, 3], to the raw file ``path``; return pairs of them.

    ``captions`` and ``keys`` stay as they are where they are not given.
    """
    with open(path, "wb") as file:
        file.writelines(np.ascontiguousarray(block, dtype=np.uint8).tobytes() for block in pixels)
    return replace(pairs, path=path, captions=captions or pairs.captions, keys=keys or pairs.keys)


def _samples(shards: Iterable[ShardInput]) -> Iterator[tuple[str, Sample]]:
    for shard in shards:
        with open_shard(shard.url) as reader:
            for sample in reader:
                yield shard.name, sample


def _chunks(items: Iterator[_Numbered]) -> Iterator[list[_Numbered]]:
    while chunk := list(islice(items, _CHUNK)):
        yield chunk


def matching(pairs: Pairs, clean: Pairs) -> npt.NDArray[np.int64]:
    """Return for each sample the row of the same shard and key in ``clean``, int64 [N].

    Raises:
        UsageError: ``clean`` lacks some of them.
    """
    rows = {key: row for row, key in enumerate(clean.keys)}
    missing = [key for key in pairs.keys if key not in rows]
    if missing:
        raise UsageError(
            f"{len(missing)} of {len(pairs)} samples (e.g. {missing[0]}) are not in the corpus "
            "that --clean names; it must be the one that was protected, with its shards and keys"
        )
    return np.array([rows[key] for key in pairs.keys], dtype=np.int64)
