import csv
from itertools import combinations
from pathlib import Path

import pytest
import torch

from unlearnable.pipeline.errors import UsageError
from unlearnable.pipeline.method import vocabulary as module
from unlearnable.pipeline.method.models import get_tokenizer
from unlearnable.pipeline.method.vocabulary import (
    TriggerVocabulary,
    content_words,
    full_vocabulary,
    reference_words,
    trigger_vocabulary,
    whole_words,
)

TOKENIZER = get_tokenizer("tiny", 16)
LISTED = ["table", "Grass", "dog", "river", "qwertyuiop", "dog"]


def vocabulary(positions: int = 2, size: int = 2, **options: object) -> TriggerVocabulary:
    return trigger_vocabulary(TOKENIZER, positions=positions, size=size, **options)  # type: ignore[arg-type]


def test_whole_words_survive_tokenizer_and_detokenizer() -> None:
    words = whole_words(TOKENIZER)
    assert len(words) > 10_000
    for word, token in list(words.items())[::500]:
        assert TOKENIZER.encode(word) == [token]
        assert TOKENIZER.decode([token]).strip() == word


def test_every_reference_word_is_one_token_alone_and_in_a_text() -> None:
    for words in reference_words():
        assert len(words) >= 64
        for word in words:
            (token,) = TOKENIZER.encode(word)
            assert TOKENIZER.encode(f"a {word} A")[1:-1] == [token]
            assert whole_words(TOKENIZER)[word] == token


def test_a_reference_word_tells_its_position_and_has_its_reason() -> None:
    lists = reference_words()
    assert len(lists) == 3
    assert all(not set(one) & set(other) for one, other in combinations(lists, 2))
    path = Path(module.__file__).parent / "words" / "reference.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len({row["word"] for row in rows}) == sum(map(len, lists))
    assert all(row["kind"] and row["meaning"] for row in rows)


def test_each_position_has_words_of_the_shipped_list_drawn_by_seed() -> None:
    found, other = vocabulary(3, 8), vocabulary(3, 8, seed=1)
    for row, words in zip(found.words, reference_words(), strict=True):
        assert len(set(row)) == 8
        assert set(row) <= set(words)
    assert found == vocabulary(3, 8)
    assert found.words != other.words
    choice = torch.tensor([[0, 1, 2]])
    text = " ".join(found.words[j][i] for j, i in enumerate([0, 1, 2]))
    assert found.tokens(choice).tolist() == [TOKENIZER.encode(text)]
    assert found.texts(found.tokens(choice)) == [text]


def test_more_positions_share_the_lists_without_a_word_in_common() -> None:
    found = vocabulary(16, 8).words
    assert [len(row) for row in found] == [8] * 16
    assert len(set().union(*found)) == 128
    assert set(found[3]) <= set(reference_words()[0])


def test_all_words_of_a_list_where_no_size_is_given() -> None:
    found = trigger_vocabulary(TOKENIZER, positions=3).words
    least = min(map(len, reference_words()))
    assert [len(row) for row in found] == [least] * 3


def test_a_method_without_triggers_has_no_positions() -> None:
    assert trigger_vocabulary(TOKENIZER, positions=0).positions == 0


def test_every_word_of_every_position_is_drawn() -> None:
    drawn = vocabulary(3, 2).draw(200, torch.Generator().manual_seed(0))
    assert [sorted(set(column.tolist())) for column in drawn.T] == [[0, 1]] * 3


def test_a_list_of_words_is_used_alone_in_its_order() -> None:
    assert vocabulary(words=[LISTED]).words == (("table", "dog"), ("grass", "river"))
    assert vocabulary(1, 3, words=[LISTED]).words == (("table", "grass", "dog"),)


def test_a_list_a_position_makes_a_pattern_of_parts_of_speech() -> None:
    adjectives, nouns = ["red", "green", "old"], ["table", "dog", "red", "grass", "river"]
    # Positions without a list of their own share the last one out between them.
    assert vocabulary(3, words=[adjectives, nouns]).words == (
        ("red", "green"),
        ("table", "grass"),
        ("dog", "river"),
    )
    with pytest.raises(UsageError, match=r"only 1 of the 2 listed words.*at least 2"):
        vocabulary(words=[adjectives, ["dog", "red"]])


def test_a_list_without_enough_usable_words_says_which_were_refused() -> None:
    with pytest.raises(
        UsageError, match=r"only 3 of the 5 listed.*at least 4.*qwertyuiop, Two-word"
    ):
        vocabulary(words=[["dog", "ball", "qwertyuiop", "Two-word", "river"]])


def test_full_vocabulary_is_the_same_at_every_position() -> None:
    found = full_vocabulary(TOKENIZER, positions=5, size=100)
    assert found.positions == 5
    assert len(set(found.words)) == 1
    assert len(found.words[0]) == 100


CONTENT = {
    "L\u2019été, l'homme n'a pas vu Noël": {"été", "homme", "pas", "vu", "noël"},
    "caf&eacute;s &amp; d&#39;hiver": {"cafés", "hiver"},
    "cafe\u0301s": {"cafés"},
    "The man's dog doesn't like well-known e-mails": {
        *("man", "dog", "doesn't", "like", "well", "known", "mails")
    },
    "3 dogs in 2024, 20%": {"dogs"},
    "كلب يركض على العشب": {"كلب", "يركض", "على", "العشب"},
    "Собака бежит": {"собака", "бежит"},
    "一只狗": {"一只", "只狗"},
    "犬が camera": {"犬が", "camera"},
    "หมา": {"หม", "มา"},
    "": set(),
    "?! 7 a": set(),
}


@pytest.mark.parametrize("text", CONTENT)
def test_words_end_where_unicode_says(text: str) -> None:
    assert content_words(text) == {word for word in CONTENT[text] if word != "like"}
