"""Trigger vocabulary: words that stay whole in the tokenizer and that nobody minds reading."""

import re
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import UsageError

_WORDS_DIR = Path(__file__).parent / "words"
_WORD = re.compile(r"[a-z]{2,}")


@cache
def _word_file(name: str) -> frozenset[str]:
    return frozenset((_WORDS_DIR / f"{name}.txt").read_text().split())


@lru_cache(maxsize=1 << 16)
def _word_ids(tokenizer: Any, word: str) -> tuple[int, ...]:
    """Token ids of a word without white space, which no token of plain text reaches over."""
    return tuple(tokenizer.encode(word))


def leading_ids(tokenizer: Any, text: str, count: int) -> list[int]:
    """Return the first ``count`` token ids of ``text`` as a model reads it, truncation included."""
    ids: list[int] = []
    whole = count <= tokenizer.context_length - 2
    if whole and text.isascii() and text.isprintable() and "&" not in text:
        # Cleaning leaves such a text as it is, so what follows changes nothing at its front.
        for word in text.split(maxsplit=count)[:count]:
            ids += _word_ids(tokenizer, word)
        ids = ids[:count]
    if len(ids) < count:
        ids = tokenizer([text])[0, 1 : 1 + count].tolist()
    return ids


@cache
def whole_words(tokenizer: Any) -> Mapping[str, int]:
    """Return every lower-case word that is one token and comes back on decode."""
    words: dict[str, int] = {}
    for token_id, token in tokenizer.decoder.items():
        word = token.removesuffix("</w>")
        if (
            token.endswith("</w>")
            and _WORD.fullmatch(word)
            and tokenizer.encode(word) == [token_id]
        ):
            words[word] = int(token_id)
    return words


def safe_words(tokenizer: Any, blocklist: Iterable[str] = ()) -> dict[str, int]:
    """Return the whole words less the offensive ones and the user's ``blocklist``."""
    refused = _word_file("offensive") | {word.lower() for word in blocklist}
    return {word: token for word, token in whole_words(tokenizer).items() if word not in refused}


def content_words(text: str) -> set[str]:
    """Return the lower-case words of a caption that carry meaning."""
    return set(_WORD.findall(text.lower())) - _word_file("function")


@dataclass(frozen=True)
class TriggerVocabulary:
    """The words each trigger position may use.

    Attributes:
        words: the words of each of the k positions.
        ids: their token ids in the same arrangement.
    """

    words: tuple[tuple[str, ...], ...]
    ids: tuple[tuple[int, ...], ...]

    @property
    def positions(self) -> int:
        """Words in a trigger (k)."""
        return len(self.words)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Choose words at random: int64 [count, k], indices into each position's words."""
        columns = [torch.randint(0, len(row), (count,), generator=generator) for row in self.ids]
        return torch.stack(columns, dim=1) if columns else torch.zeros((count, 0)).long()

    def tokens(self, choice: Tensor) -> Tensor:
        """Return the token ids of chosen words, int64 [N, k] -> int64 [N, k]."""
        columns = [torch.tensor(row)[choice[:, j]] for j, row in enumerate(self.ids)]
        return torch.stack(columns, dim=1) if columns else choice

    def allowed(self, device: str) -> list[Tensor]:
        """Token ids of each position, int64 [V_j] each."""
        return [torch.tensor(row, device=device) for row in self.ids]

    def texts(self, tokens: Tensor) -> list[str]:
        """Write out triggers given as token ids, int64 [N, k]."""
        pairs = zip(self.ids, self.words, strict=True)
        names = [dict(zip(ids, words, strict=True)) for ids, words in pairs]
        return [" ".join(names[j][t] for j, t in enumerate(row)) for row in tokens.tolist()]


def corpus_vocabulary(
    captions: Iterable[Sequence[str]],
    tokenizer: Any,
    *,
    positions: int,
    coded: int,
    size: int,
    decoys: int,
    blocklist: Iterable[str] = (),
    words: Sequence[Sequence[str]] = (),
    least: int = 1,
) -> TriggerVocabulary:
    """Take the corpus's own most frequent content words, or those of a user's list.

    A trigger made of words that captions use anyway unties those words from what pictures show: the
    model meets each of them far more often in a trigger than in its meaning. The first ``coded``
    positions share out the most frequent words, few each, so that a model soon learns what they
    stand for; every further position draws from one longer list of decoys, which stand for nothing.

    Args:
        captions: texts of each sample.
        tokenizer: the surrogate's.
        positions: words in a trigger (k).
        coded: leading positions whose words own a pattern, at most k.
        size: words of a coded position.
        decoys: words of every other position.
        blocklist: words never used.
        words: a user's lists: only these are used, those first that captions use most; one list a
            position, the last one for all that follow.
        least: captions that must use a word of the corpus's own; a user's words need none.

    Raises:
        UsageError: there are fewer than 2 usable words a coded position.
    """
    allowed = safe_words(tokenizer, blocklist)
    counts: Counter[str] = Counter()
    for texts in captions:
        counts.update({word for text in texts for word in _WORD.findall(text.lower())})
    if words:
        lists = _sorted_lists(words, allowed, counts)
    else:
        lists = [
            [
                word
                for word, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
                if count >= least and word in allowed and word not in _word_file("function")
            ]
        ]
    of = [min(position, len(lists) - 1) for position in range(positions)]
    sharing = Counter(of[:coded])
    each = min(size, *(len(lists[number]) // places for number, places in sharing.items()))
    if each < 2:
        number = min(sharing, key=lambda place: len(lists[place]) // sharing[place])
        listed = words[number] if words else ()
        raise UsageError(_too_few(lists[number], 2 * sharing[number], listed, allowed, least))
    rows: list[tuple[str, ...]] = []
    for position, number in enumerate(of):
        places, found = sharing[number], lists[number]
        dealt = found[: places * each][of[:position].count(number) :: places]
        rows.append(tuple(dealt if position < coded else found[:decoys]))
    return TriggerVocabulary(tuple(rows), tuple(tuple(allowed[w] for w in row) for row in rows))


def _sorted_lists(
    words: Sequence[Sequence[str]], allowed: Container[str], counts: Mapping[str, int]
) -> list[list[str]]:
    """Return the usable words of each list, the most used first, each word in one list only."""
    taken: set[str] = set()
    lists = []
    for listed in words:
        own = dict.fromkeys(word.lower() for word in listed)
        fresh = [word for word in own if word in allowed and word not in taken]
        taken.update(fresh)
        lists.append(sorted(fresh, key=lambda word: -counts[word]))
    return lists


def _too_few(
    usable: Sequence[str], wanted: int, listed: Sequence[str], allowed: Container[str], least: int
) -> str:
    """Say what stands in the way of more trigger words."""
    if listed:
        refused = [word for word in listed if word.lower() not in allowed]
        shown = f" ({', '.join(refused[:8])}{', ...' if len(refused) > 8 else ''})"
        return (
            f"only {len(usable)} of the {len(listed)} listed words can be used and at least "
            f"{wanted} are needed; a trigger word is one lower-case word that the tokenizer keeps "
            f"whole and that is on no list of offensive words{shown if refused else ''}"
        )
    floor = f" that {least} captions use" if least > 1 else ""
    return (
        f"the captions hold only {len(usable)} usable trigger words{floor}, and at least {wanted} "
        f"are needed: give fit more captions{' or a lower word-floor' if least > 1 else ''}"
    )


def full_vocabulary(
    tokenizer: Any, *, positions: int, size: int = 10_000, blocklist: Iterable[str] = ()
) -> TriggerVocabulary:
    """Let every position use any frequent safe word (the published choice, less its unsafe tokens).

    Byte-pair merges are learned most frequent first, so token ids rank words by frequency.
    """
    allowed = safe_words(tokenizer, blocklist)
    words = tuple(sorted(allowed, key=allowed.__getitem__)[:size])
    return TriggerVocabulary((words,) * positions, (tuple(allowed[w] for w in words),) * positions)
