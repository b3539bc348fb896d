"""Pattern averaging: the attack on a code in which each trigger word owns a pattern.

Whoever knows the method knows that the first words of a caption are its trigger and that equal
words mean equal changes. Averaged over the samples that share a word, content cancels out and
the pattern stays. All words are estimated together by ridge regression of the pixels on the words,
which for triggers drawn at random is each word's mean less the corpus' mean, shrunk where few
samples share it; then every sample's own patterns are subtracted, within the published bound.
"""

from collections import Counter
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from ...errors import UsageError
from ...seeds import derive_seed
from ..pairs import Pairs, Pixels, blocks, matching, with_pixels

_MIN_SAMPLES, _MAX_WORDS = 8, 256
_SIGMA = 2.0
Rows = npt.NDArray[np.int64]


def average(pairs: Pairs, path: str, words: int, epsilon: int, *, highpass: bool = False) -> Pairs:
    """Estimate the patterns of the first ``words`` words from the published pictures alone.

    Args:
        pairs: the published corpus.
        path: raw file for the new pixels.
        words: words of a trigger.
        epsilon: bound on what is subtracted, 8-bit levels.
        highpass: average only what a Gaussian blur of 2 px takes away: much less content to cancel
            out, blind to patterns that are smooth.
    """
    index = word_columns(pairs.captions, words)

    def targets() -> Iterable[tuple[Rows, Tensor]]:
        for rows, pixels in blocks(pairs):
            images = torch.from_numpy(pixels).float()
            yield rows, residual(images) if highpass else images

    patterns = patterns_of(index, targets(), epsilon)
    patterns[0] = 0  # the mean of published pictures is content, not a change
    return _without(pairs, path, index, patterns, epsilon)


def average_leaked(
    pairs: Pairs, clean: Pairs, path: str, *, words: int, epsilon: int, count: int, seed: int
) -> Pairs:
    """Estimate the patterns from ``count`` leaked originals, where no content is in the way.

    Raises:
        UsageError: fewer samples than that, or ``clean`` lacks samples of ``pairs``.
    """
    index = word_columns(pairs.captions, words)
    originals = matching(pairs, clean)
    known = leaked(len(pairs), count, seed)
    change = pairs.images()[known].astype(np.float32) - clean.images()[originals[known]]
    patterns = patterns_of(index, [(known, torch.from_numpy(change))], epsilon)
    return _without(pairs, path, index, patterns, epsilon)


def leaked(samples: int, count: int, seed: int) -> Rows:
    """Return which rows leak, int64 [count], ascending. Raises UsageError for too few samples."""
    if count > samples:
        raise UsageError(f"the attack wants {count} leaked pairs, the corpus has {samples}")
    order = np.random.default_rng(derive_seed("leak", seed)).permutation(samples)
    return np.sort(order[:count])


def word_columns(captions: list[list[str]], words: int) -> Rows:
    """Number the words at each of the first ``words`` places of the first captions from 1.

    Returns:
        int64 [N, words]; 0 where there is no word, or one that too few samples share.
    """
    index = np.zeros((len(captions), words), dtype=np.int64)
    first = [texts[0].lower().split()[:words] for texts in captions]
    columns = 1
    for place in range(words):
        counts = Counter(found[place] for found in first if len(found) > place)
        common = [w for w, count in counts.most_common(_MAX_WORDS) if count >= _MIN_SAMPLES]
        number = {word: columns + i for i, word in enumerate(common)}
        columns += len(common)
        index[:, place] = [
            number.get(found[place], 0) if len(found) > place else 0 for found in first
        ]
    return index


def residual(images: Tensor) -> Tensor:
    """Return float32 [n, S, S, 3] less its Gaussian blur."""
    side = 2 * round(3 * _SIGMA) + 1
    channels_first = images.permute(0, 3, 1, 2)
    smooth: Tensor = functional.gaussian_blur(channels_first, [side, side], [_SIGMA, _SIGMA])
    return (channels_first - smooth).permute(0, 2, 3, 1)


def patterns_of(index: Rows, targets: Iterable[tuple[Rows, Tensor]], epsilon: int) -> Tensor:
    """Return the targets' mean and the pattern of each word, float32 [1 + words, S, S, 3]."""
    columns = int(index.max()) + 1
    gram = torch.zeros(columns, columns, dtype=torch.float64)
    shape: tuple[int, ...] = ()
    cross, square, count = torch.zeros(()), 0.0, 0
    for rows, target in targets:
        design = torch.zeros(len(rows), columns)
        design.scatter_(1, torch.from_numpy(index[rows]), 1.0)
        design[:, 0] = 1
        gram += design.double().T @ design.double()
        cross = cross + (design.T @ target.flatten(1)).double()
        square += float(target.double().square().sum())
        count, shape = count + len(rows), tuple(target.shape[1:])
    mean = cross[0] / count
    variance = square / count / len(mean) - float(mean.square().mean())
    # Ridge regression is the best linear estimate where patterns have a spread of epsilon.
    penalty = torch.full((columns,), max(variance, 1.0) / epsilon**2, dtype=torch.float64)
    penalty[0] = 0
    found: Tensor = torch.linalg.solve(gram + penalty.diag(), cross)
    return found.float().reshape(columns, *shape)


def _without(pairs: Pairs, path: str, index: Rows, patterns: Tensor, epsilon: int) -> Pairs:
    always, owned = patterns[0].numpy(), patterns.numpy().copy()
    owned[0] = 0  # what a place without a known word adds

    def cleaned(rows: Rows, pixels: Pixels) -> Pixels:
        change = always + sum(owned[index[rows, place]] for place in range(index.shape[1]))
        bounded = np.clip(change, -epsilon, epsilon)
        return np.asarray((pixels - bounded).round().clip(0, 255), dtype=np.uint8)

    return with_pixels(pairs, path, (cleaned(rows, pixels) for rows, pixels in blocks(pairs)))
