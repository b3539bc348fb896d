"""The captions of some samples, tokenised once and only where they are used."""

import logging
from collections.abc import Sequence

import torch
from torch import Tensor

from .models import Tokenizer
from .topics import Topics, fit_topics

log = logging.getLogger(__name__)


class Captions:
    """Captions by sample.

    Attributes:
        texts: one or more of each sample.
        tokenizer: the models' own.
    """

    def __init__(self, texts: Sequence[Sequence[str]], tokenizer: Tokenizer) -> None:
        self.texts, self.tokenizer = texts, tokenizer
        self._tokens: dict[tuple[int, int], Tensor] = {}
        self._topics: dict[tuple[int, int, int], Topics | None] = {}

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def are_single(self) -> bool:
        """Whether each sample has one caption."""
        return all(len(own) == 1 for own in self.texts)

    def of(self, rows: Sequence[int]) -> "Captions":
        """Return those of some samples."""
        return Captions([self.texts[row] for row in rows], self.tokenizer)

    def topics(self, positions: int, count: int, seed: int) -> Topics | None:
        """Return what `fit_topics` makes of them."""
        asked = (positions, count, seed)
        if asked not in self._topics:
            self._topics[asked] = fit_topics(self.texts, *asked)
            if self._topics[asked] is None:
                log.warning("the captions use too few words for topics: chance draws the triggers")
        return self._topics[asked]

    def draw(self, rows: Sequence[int], generator: torch.Generator) -> Tensor:
        """Pick one caption of each of ``rows`` by chance, int64 [len(rows), L]."""
        counts = [len(self.texts[row]) for row in rows]
        picks = [int(torch.randint(count, (1,), generator=generator)) for count in counts]
        return self._bodies(list(zip(rows, picks, strict=True)))

    def firsts(self, rows: Sequence[int]) -> Tensor:
        """Return the first caption of each of ``rows``, int64 [len(rows), L]."""
        return self._bodies([(row, 0) for row in rows])

    def _bodies(self, picks: list[tuple[int, int]]) -> Tensor:
        missing = [pick for pick in dict.fromkeys(picks) if pick not in self._tokens]
        if missing:
            found = self.tokenizer([self.texts[row][place] for row, place in missing])
            self._tokens.update(zip(missing, found, strict=True))
        return torch.stack([self._tokens[pick] for pick in picks])
