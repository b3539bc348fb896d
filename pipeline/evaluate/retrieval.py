"""Image-caption retrieval: Hit@k and median rank both ways, and what chance gives.

Ties count as what a random order of the tied candidates gives on average, never as wins: a victim
whose features have all collapsed into one scores exactly chance, and so does one whose features are
not finite.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

_BLOCK = 256


@dataclass(frozen=True)
class Scores:
    """Retrieval in one direction.

    Attributes:
        hit1: per cent of queries with a right answer at rank 1.
        hit5: the same among the first 5.
        hit10: the same among the first 10.
        medr: median rank of the first right answer (the smallest that half of the queries reach).
    """

    hit1: float
    hit5: float
    hit10: float
    medr: float


@dataclass(frozen=True)
class Retrieval:
    """Both ways: ``i2t`` asks captions with an image, ``t2i`` asks images with a caption."""

    i2t: Scores
    t2i: Scores


@dataclass(frozen=True)
class _Standing:
    """Where the right answers of each query stand, int64 [Q] each.

    Attributes:
        better: wrong candidates that score above every right one.
        tied: wrong candidates that score the same as the best right one.
        right: right candidates among these ties, at least 1.
    """

    better: Tensor
    tied: Tensor
    right: Tensor

    def reached(self, rank: int) -> Tensor:
        """Return the probability, float64 [Q], that a right answer stands within ``rank``.

        With j = rank - better places left for the ties it is 1 - C(tied, j) / C(tied + right, j).
        """
        places = (rank - self.better).clamp(min=0).double()
        tied, both = self.tied.double(), (self.tied + self.right).double()
        inside = places <= tied
        j = torch.where(inside, places, torch.zeros_like(places))
        missed = _log_falling(tied, j) - _log_falling(both, j)
        return torch.where(inside, 1 - missed.exp(), torch.ones_like(places))


def retrieval(image_features: Tensor, text_features: Tensor, owner: Tensor) -> Retrieval:
    """Rank captions for each image and images for each caption by inner product.

    Image-to-text counts the best rank among an image's own captions; text-to-image asks with
    every caption.

    Args:
        image_features: float [N, D], normalised.
        text_features: float [M, D], normalised.
        owner: int64 [M], the image that each caption belongs to; every image has at least one.
    """
    images, texts = _finite(image_features), _finite(text_features)
    return Retrieval(
        i2t=_scores(_image_to_text(images, texts, owner), len(texts)),
        t2i=_scores(_text_to_image(images, texts, owner), len(images)),
    )


class Identities:
    """Test pictures whose captions name identities, several pictures of each.

    Retrieval is one-to-one, on the first picture of each identity and its caption; every picture is
    named by the nearest of all identities' captions (zero-shot prompts).

    Args:
        captions: of each picture; its first one names it.
    """

    def __init__(self, captions: list[list[str]]) -> None:
        first: dict[str, int] = {}
        for row, texts in enumerate(captions):
            first.setdefault(texts[0], row)
        self.first = torch.tensor(list(first.values()))
        place = {text: number for number, text in enumerate(first)}
        self.owner = torch.tensor([place[texts[0]] for texts in captions])

    def score(self, images: Tensor, texts: Tensor) -> tuple[Retrieval, float]:
        """Return retrieval and the per cent of pictures that are named right.

        Args:
            images: float [N, D], normalised.
            texts: float [N, D], of each picture's first caption.
        """
        prompts = _finite(texts[self.first])
        named = _stand(
            _finite(images) @ prompts.T,
            self.owner[:, None].to(images.device) == torch.arange(len(prompts)).to(images.device),
        )
        right = round(100 * float(named.reached(1).mean()), 6)
        found = retrieval(images[self.first], prompts, torch.arange(len(prompts)))
        return found, right


def chance(captions: list[int]) -> Retrieval:
    """Return what random embeddings give, exactly, for images with that many captions each."""
    counts = torch.tensor(captions, dtype=torch.int64)
    total = int(counts.sum())
    nothing = torch.zeros_like(counts)
    one = torch.ones(1, dtype=torch.int64)
    i2t = _Standing(better=nothing, tied=total - counts, right=counts)
    t2i = _Standing(better=one - 1, tied=one * (len(captions) - 1), right=one)
    return Retrieval(_scores(i2t, total), _scores(t2i, len(captions)))


def _finite(features: Tensor) -> Tensor:
    """Return the features, or zeros (every candidate ties) where one of them is not finite."""
    ok = torch.isfinite(features).all()
    return features.float() if ok else torch.zeros_like(features, dtype=torch.float32)


def _image_to_text(images: Tensor, texts: Tensor, owner: Tensor) -> _Standing:
    parts = []
    for start in range(0, len(images), _BLOCK):
        scores = images[start : start + _BLOCK] @ texts.T
        index = torch.arange(start, start + len(scores), device=scores.device)
        own = owner.to(scores.device)[None, :] == index[:, None]
        parts.append(_stand(scores, own))
    return _concatenate(parts)


def _text_to_image(images: Tensor, texts: Tensor, owner: Tensor) -> _Standing:
    parts = []
    index = torch.arange(len(images), device=images.device)
    for start in range(0, len(texts), _BLOCK):
        scores = texts[start : start + _BLOCK] @ images.T
        own = owner[start : start + _BLOCK].to(scores.device)[:, None] == index[None, :]
        parts.append(_stand(scores, own))
    return _concatenate(parts)


def _stand(scores: Tensor, own: Tensor) -> _Standing:
    best = scores.masked_fill(~own, -torch.inf).amax(dim=1, keepdim=True)
    equal = scores == best
    right = (equal & own).sum(1)
    return _Standing((scores > best).sum(1), equal.sum(1) - right, right)


def _concatenate(parts: list[_Standing]) -> _Standing:
    return _Standing(
        torch.cat([part.better for part in parts]).cpu(),
        torch.cat([part.tied for part in parts]).cpu(),
        torch.cat([part.right for part in parts]).cpu(),
    )


def _scores(standing: _Standing, candidates: int) -> Scores:
    hit1, hit5, hit10 = (round(100 * float(standing.reached(k).mean()), 6) for k in (1, 5, 10))
    return Scores(hit1, hit5, hit10, _median_rank(standing, candidates))


def _median_rank(standing: _Standing, candidates: int) -> float:
    low, high = 1, candidates
    while low < high:
        middle = (low + high) // 2
        if float(standing.reached(middle).mean()) >= 0.5 - 1e-9:
            high = middle
        else:
            low = middle + 1
    return float(low)


def _log_falling(n: Tensor, j: Tensor) -> Tensor:
    """Return log(n (n-1) ... (n-j+1)) for 0 <= j <= n."""
    return torch.lgamma(n + 1) - torch.lgamma(n - j + 1)
