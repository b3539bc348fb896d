"""Trigger vocabulary: reference words that say nothing about a picture and stay one token each.

The shipped list is ``words/reference.csv``: a list for each of three positions, each word with its
kind and meaning. Every word is a term of mathematics, science, writing or computing. None names or
describes a person, body, age, colour, origin, faith, number of things, place, action, feeling or
anything that an ordinary picture shows. A caption with such words in front reads like a shelf mark.
"""

import csv
import html
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import regex
import torch
from torch import Tensor

from ..errors import UsageError

_WORDS_DIR = Path(__file__).parent / "words"
_TOKEN_WORD = regex.compile(r"[a-z]{2,}")
# Scripts that put no space between words; two characters stand for a word there.
_UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"
_PAIR = regex.compile(rf"{_UNSPACED}{{2}}")
# What UAX 29 leaves to a language: French and Italian elisions, the English genitive.
_AFFIX = regex.compile(r"\b(?:[cdjlmnst]|qu)'(?=\p{L})|'s\b")
# What UAX 29 takes for one word (flag w), from its first letter on.
_SPACED = regex.compile(rf"(?V1w)\b(?![0-9_]|{_UNSPACED})\w\B.+?\b")


def reference_words() -> tuple[tuple[str, ...], ...]:
    """Return the shipped list: the words of each of its positions, in the order of the alphabet."""
    lists: dict[str, list[str]] = {}
    with (_WORDS_DIR / "reference.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            lists.setdefault(row["position"], []).append(row["word"])
    return tuple(map(tuple, lists.values()))


@cache
def _function_words() -> frozenset[str]:
    return frozenset((_WORDS_DIR / "function.txt").read_text(encoding="utf-8").split())


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
    ends = (token for token in tokenizer.decoder.values() if token.endswith("</w>"))
    return _whole(tokenizer, [token.removesuffix("</w>") for token in ends])


def _whole(tokenizer: Any, words: Iterable[str]) -> dict[str, int]:
    """Return the token ids of those of ``words`` that `whole_words` holds; all take seconds."""
    ids = tokenizer.encoder
    return {
        word: int(ids[f"{word}</w>"])
        for word in words
        if _TOKEN_WORD.fullmatch(word)
        and f"{word}</w>" in ids
        and tokenizer.encode(word) == [ids[f"{word}</w>"]]
    }


def content_words(text: str) -> set[str]:
    """Return what a caption is made of: its words in small letters, less English function words.

    Entities are read as what they stand for. Words end where Unicode says (UAX 29); of a script
    without spaces every two neighbouring characters count as a word.
    """
    plain, pairs = html.unescape(text).casefold(), []
    if not plain.isascii():
        plain = unicodedata.normalize("NFC", plain).replace("\u2019", "'")
        pairs = _PAIR.findall(plain, overlapped=True)
    if "'" in plain:
        plain = _AFFIX.sub(" ", plain)
    return {*_SPACED.findall(plain), *pairs} - _function_words()


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

    @property
    def sizes(self) -> list[int]:
        """Words of each position."""
        return [len(row) for row in self.ids]

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


def trigger_vocabulary(
    tokenizer: Any,
    *,
    positions: int,
    size: int | None = None,
    words: Sequence[Sequence[str]] = (),
    seed: int = 0,
) -> TriggerVocabulary:
    """Give each trigger position words of its own, from the shipped list or from an owner's.

    Args:
        tokenizer: the surrogate's.
        positions: words in a trigger (k).
        size: words of a position; all of its list where None.
        words: an owner's lists, one a position, the last one for all that follow; the first words
            of a list are taken. When empty, words of the shipped list are drawn; a fourth position
            shares the list of the first, and so on.
        seed: of that draw.

    Raises:
        UsageError: there are fewer than 2 usable words a position.
    """
    listed = words or reference_words()
    allowed = _whole(tokenizer, {word.lower() for row in listed for word in row})
    if words:
        of = [min(position, len(words) - 1) for position in range(positions)]
        lists = _usable(words, allowed)
    else:
        lists = _drawn(listed, seed)
        of = [position % len(lists) for position in range(positions)]
    sharing = Counter(of)
    each = min((len(lists[number]) // places for number, places in sharing.items()), default=0)
    if of and each < 2:
        number = min(sharing, key=lambda place: len(lists[place]) // sharing[place])
        raise UsageError(_too_few(lists[number], 2 * sharing[number], words[number], allowed))
    rows: list[tuple[str, ...]] = []
    for position, number in enumerate(of):
        dealt = lists[number][of[:position].count(number) :: sharing[number]]
        rows.append(tuple(dealt[: min(each, size or each)]))
    return TriggerVocabulary(tuple(rows), tuple(tuple(allowed[w] for w in row) for row in rows))


def _drawn(lists: Sequence[Sequence[str]], seed: int) -> list[list[str]]:
    """Return each list in an order that ``seed`` decides."""
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(len(words), generator=generator).tolist() for words in lists]
    return [[words[i] for i in order] for words, order in zip(lists, orders, strict=True)]


def _usable(words: Sequence[Sequence[str]], allowed: Mapping[str, int]) -> list[list[str]]:
    """Return the usable words of each list in its order, each word in one list only."""
    taken: set[str] = set()
    lists = []
    for listed in words:
        own = dict.fromkeys(word.lower() for word in listed)
        lists.append([word for word in own if word in allowed and word not in taken])
        taken.update(lists[-1])
    return lists


def _too_few(
    usable: Sequence[str], wanted: int, listed: Sequence[str], allowed: Mapping[str, int]
) -> str:
    """Say what stands in the way of more trigger words."""
    refused = [word for word in listed if word.lower() not in allowed]
    shown = f" ({', '.join(refused[:8])}{', ...' if len(refused) > 8 else ''})"
    return (
        f"only {len(usable)} of the {len(listed)} listed words can be used and at least "
        f"{wanted} are needed; a trigger word is one word of the letters a to z that the tokenizer "
        f"keeps whole{shown if refused else ''}"
    )


def full_vocabulary(tokenizer: Any, *, positions: int, size: int = 10_000) -> TriggerVocabulary:
    """Let every position use any frequent whole word, as published.

    Byte-pair merges are learned most frequent first, so token ids rank words by frequency.
    """
    allowed = whole_words(tokenizer)
    words = tuple(sorted(allowed, key=allowed.__getitem__)[:size])
    return TriggerVocabulary((words,) * positions, (tuple(allowed[w] for w in words),) * positions)
