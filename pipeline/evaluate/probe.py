"""A linear probe of what an image tower has learned to see.

A victim at chance in retrieval may still have learned to tell dogs from boats. The probe asks its
embeddings of the clean test pictures which of the captions' content words belong to a picture
(Alain and Bengio 2017): ridge regression in closed form on one half of the pictures, average
precision on the other, and the other way round.
"""

from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor

from ..method.vocabulary import content_words

# Pictures of each half that have to hold a word, and to lack it.
_LEAST = 10
_MOST_WORDS = 200
# Weight of the penalty, as a share of an embedding's mean squared length.
_RIDGE = 1.0


@dataclass(frozen=True)
class Probe:
    """What a probe finds.

    Attributes:
        precision: average precision in per cent, mean over words.
        chance: what a random order of the pictures gives, the words' mean frequency in per cent.
        words: how many were asked for.
    """

    precision: float
    chance: float
    words: int


def content_probe(features: Tensor, captions: list[list[str]]) -> Probe | None:
    """Probe embeddings, float32 [N, D], for the captions' words; None where no word is frequent."""
    truth = _word_table(captions)
    if not truth.shape[1]:
        return None
    finite = torch.isfinite(features).all()
    known = features.double() if finite else torch.zeros_like(features, dtype=torch.float64)
    halves = (torch.arange(len(truth)) % 2 == 0, torch.arange(len(truth)) % 2 == 1)
    found = [
        _average_precision(_predict(known[one], truth[one], known[other]), truth[other])
        for one, other in (halves, halves[::-1])
    ]
    precision = 100 * float(torch.stack(found).mean())
    return Probe(round(precision, 4), round(100 * float(truth.double().mean()), 4), truth.shape[1])


def _word_table(captions: list[list[str]]) -> Tensor:
    """Return which picture's captions hold which content word, bool [N, W], by frequency."""
    held = [content_words(" ".join(texts)) for texts in captions]
    halves = [Counter(word for words in held[start::2] for word in words) for start in (0, 1)]
    sizes = [len(held[start::2]) for start in (0, 1)]
    frequent = [
        word
        for word in sorted(halves[0])
        if all(
            _LEAST <= half[word] <= size - _LEAST for half, size in zip(halves, sizes, strict=True)
        )
    ]
    frequent.sort(key=lambda word: -halves[0][word] - halves[1][word])
    table = [[word in words for word in frequent[:_MOST_WORDS]] for words in held]
    return torch.tensor(table, dtype=torch.bool).reshape(len(captions), -1)


def _predict(features: Tensor, truth: Tensor, asked: Tensor) -> Tensor:
    """Fit words on features by ridge regression; return scores, float64 [M, W], of ``asked``."""
    mean, scale = features.mean(0), features.std(0).clamp(min=1e-9)
    known, new = (features - mean) / scale, (asked - mean) / scale
    target = truth.double() - truth.double().mean(0)
    gram = known @ known.T
    penalty = _RIDGE * gram.diagonal().mean().clamp(min=1e-9)
    identity = torch.eye(len(gram), dtype=gram.dtype)
    weights: Tensor = torch.linalg.solve(gram + penalty * identity, target)
    return new @ known.T @ weights


def _average_precision(scores: Tensor, truth: Tensor) -> Tensor:
    """Return the average precision of each word, float64 [W]; ties keep the pictures' order."""
    order = scores.argsort(stable=True, dim=0, descending=True)
    right = truth.gather(0, order).double()
    places = torch.arange(1, len(right) + 1, dtype=torch.float64)[:, None]
    return (right.cumsum(0) / places * right).sum(0) / right.sum(0)
