"""Topics of captions: which trigger word a sample gets when its own text decides.

A word drawn by chance ties its pattern to the trigger alone, and whoever strips the trigger is rid
of it. A word that follows from what the captions say ties the pattern to their own words too.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .vocabulary import content_words

# Words that tell topics apart; rarer ones are in too few captions to be learned.
_WORDS = 600
# Directions of the captions' word statistics that a position's topics are told by.
_DIRECTIONS = 8
_ITERATIONS = 60
# Samples whose captions are compared with one another.
_COMPARED = 2000
_TENSORS = ("weights", "bias", "rarity")


@dataclass(frozen=True)
class Topics:
    """For each coded position a division of captions into topics, one a trigger word.

    Attributes:
        words: W content words that are looked for.
        weights: float64 [positions, W, V], what a word of full weight says for each topic.
        bias: float64 [positions, V], the same of a caption as such, by the length of its vector.
        rarity: float64 [W], log of samples by samples with the word.
    """

    words: tuple[str, ...]
    weights: Tensor
    bias: Tensor
    rarity: Tensor

    def tensors(self) -> dict[str, Tensor]:
        """Return the numbers by name; the words are text and kept apart."""
        return {f"topics.{name}": getattr(self, name) for name in _TENSORS}

    @staticmethod
    def from_tensors(tensors: dict[str, Tensor], words: Sequence[str]) -> "Topics | None":
        """Rebuild what `tensors` took apart; None where there are no words."""
        if not words:
            return None
        return Topics(tuple(words), *(tensors[f"topics.{name}"] for name in _TENSORS))

    def choose(self, captions: Sequence[Sequence[str]], otherwise: Tensor) -> Tensor:
        """Return the topic of each sample at each position.

        Sums run in a fixed order, word by word: equal captions have equal topics in any batch and
        on any machine.

        Args:
            captions: one or more texts of each sample.
            otherwise: int64 [N, >= positions], taken where captions hold none of the words.

        Returns:
            int64 of the same shape, its first columns replaced.
        """
        index = {word: column for column, word in enumerate(self.words)}
        rarity = self.rarity.tolist()
        weights, bias = self.weights.transpose(0, 1).contiguous().numpy(), self.bias.numpy()
        chosen = otherwise.clone()
        for row, texts in enumerate(captions):
            found = _weigh(texts, index, rarity)
            if not found:
                continue
            score = bias * math.sqrt(sum(value * value for value in found.values()))
            for column, value in found.items():
                score += weights[column] * value
            chosen[row, : len(bias)] = torch.from_numpy(score).argmax(-1)
        return chosen


def fit_topics(
    captions: Sequence[Sequence[str]], positions: int, count: int, seed: int
) -> Topics | None:
    """Divide the captions of a corpus into topics, by discriminant analysis and k-means.

    The directions are those in which samples differ most and the captions of one sample least: a
    model sees one caption at a time and has to tell the topic from it. Each position divides along
    directions of its own, so that together they tell samples apart.

    Args:
        captions: one or more texts of each sample.
        positions: coded trigger positions.
        count: topics of each (V), as many as a position has words.
        seed: of the first centres.

    Returns:
        The topics, or None where the captions use fewer than ``count`` content words.

    Source: linear discriminant analysis, Fisher 1936; spherical k-means, Dhillon and Modha 2001.
    """
    uses = Counter(word for texts in captions for word in set().union(*map(content_words, texts)))
    words = [word for word, _ in sorted(uses.items(), key=lambda item: (-item[1], item[0]))]
    words = words[:_WORDS]
    if len(words) < count:
        return None
    index = {word: column for column, word in enumerate(words)}
    rarity = [math.log((1 + len(captions)) / uses[word]) for word in words]
    rows = _vectors(captions, index, rarity)
    mean = rows.mean(0)
    centred = rows - mean
    within = torch.zeros(len(words), len(words), dtype=torch.float64)
    for texts in captions[:_COMPARED]:
        spread = _vectors([[text] for text in texts], index, rarity)
        spread -= spread.mean(0)
        within += spread.T @ spread
    directions = _directions(centred.T @ centred, within)
    weights, biases = [], []
    for position in range(positions):
        own = directions[:, position::positions][:, :_DIRECTIONS]
        centres = _centres(centred @ own, count, seed + position)
        weights.append(own @ centres.T)
        biases.append(-(mean @ own) @ centres.T)
    return Topics(
        tuple(words),
        torch.stack(weights),
        torch.stack(biases),
        torch.tensor(rarity, dtype=torch.float64),
    )


def _vectors(
    captions: Sequence[Sequence[str]], index: dict[str, int], rarity: Sequence[float]
) -> Tensor:
    """Return the weights of words as unit vectors, float64 [N, W]."""
    rows = torch.zeros(len(captions), len(index), dtype=torch.float64)
    for row, texts in enumerate(captions):
        for column, value in _weigh(texts, index, rarity).items():
            rows[row, column] = value
    return torch.nn.functional.normalize(rows, dim=1)


def _directions(between: Tensor, within: Tensor) -> Tensor:
    """Return directions as columns [W, W], those first that differ most between samples.

    Args:
        between: scatter of samples, [W, W].
        within: scatter of the captions of one sample; zero where each has a single one.
    """
    # Few captions say little about rare words, so every word gets the mean scatter on top.
    identity = torch.eye(len(within), dtype=within.dtype)
    typical = within.trace() / len(within)
    factor = torch.linalg.cholesky(within + (typical if typical > 0 else 1.0) * identity)
    half = torch.linalg.solve_triangular(factor, between, upper=False)
    whole = torch.linalg.solve_triangular(factor, half.T, upper=False)
    found = torch.linalg.eigh(whole)[1].flip(1)
    directions: Tensor = torch.linalg.solve_triangular(factor.T, found, upper=True)
    return directions


def _centres(points: Tensor, count: int, seed: int) -> Tensor:
    """Return unit vectors [count, D] that the points [N, D] gather around."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(points), generator=generator)
    centres = torch.nn.functional.normalize(points[order[torch.arange(count) % len(order)]], dim=1)
    for _ in range(_ITERATIONS):
        nearest = (points @ centres.T).argmax(1)
        sums = torch.zeros_like(centres).index_add_(0, nearest, points)
        moved = torch.nn.functional.normalize(sums, dim=1)
        # A centre that nothing is near to stays where it is.
        moved = torch.where(sums.abs().sum(1, keepdim=True) > 0, moved, centres)
        if torch.equal(moved, centres):
            break
        centres = moved
    return centres


def _weigh(
    texts: Sequence[str], index: dict[str, int], rarity: Sequence[float]
) -> dict[int, float]:
    """Return the weight of each known word in a sample's captions, by rising column."""
    uses = Counter(index[word] for text in texts for word in content_words(text) if word in index)
    return {column: math.sqrt(uses[column]) * rarity[column] for column in sorted(uses)}
