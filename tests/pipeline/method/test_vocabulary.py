import pytest
import torch

from unlearnable.pipeline.errors import UsageError
from unlearnable.pipeline.method.models import get_tokenizer
from unlearnable.pipeline.method.vocabulary import corpus_vocabulary, full_vocabulary, safe_words

TOKENIZER = get_tokenizer("tiny", 16)
CAPTIONS = [
    ["A red dog runs over the wet grass"],
    ["two dogs play", "a red ball"],
    ["grass and a dog"],
]


def test_safe_words_survive_tokenizer_and_detokenizer() -> None:
    words = safe_words(TOKENIZER, blocklist=["Dog"])
    assert not {"dog", "fuck"} & set(words)
    assert len(words) > 10_000
    for word, token in list(words.items())[::500]:
        assert TOKENIZER.encode(word) == [token]
        assert TOKENIZER.decode([token]).strip() == word


def test_corpus_vocabulary_takes_frequent_content_words() -> None:
    vocabulary = corpus_vocabulary(CAPTIONS, TOKENIZER, positions=3, coded=2, size=2, decoys=3)
    assert vocabulary.words == (("dog", "red"), ("grass", "ball"), ("dog", "grass", "red"))
    choice = torch.tensor([[0, 1, 2]])
    assert vocabulary.tokens(choice).tolist() == [TOKENIZER.encode("dog ball red")]
    assert vocabulary.texts(vocabulary.tokens(choice)) == ["dog ball red"]


def test_every_word_of_every_position_is_drawn() -> None:
    vocabulary = corpus_vocabulary(CAPTIONS, TOKENIZER, positions=3, coded=2, size=2, decoys=3)
    drawn = vocabulary.draw(200, torch.Generator().manual_seed(0))
    assert [sorted(set(column.tolist())) for column in drawn.T] == [[0, 1], [0, 1], [0, 1, 2]]


def test_too_few_words_name_the_remedy() -> None:
    with pytest.raises(UsageError, match="more captions"):
        corpus_vocabulary([["the dog"]], TOKENIZER, positions=3, coded=3, size=8, decoys=64)


def of_captions(**options: object) -> tuple[tuple[str, ...], ...]:
    settings = {"positions": 3, "coded": 2, "size": 2, "decoys": 3} | options
    return corpus_vocabulary(CAPTIONS, TOKENIZER, **settings).words  # type: ignore[arg-type]


def test_a_list_of_words_is_used_alone_and_most_common_first() -> None:
    listed = ["table", "Grass", "dog", "river", "qwertyuiop", "dog"]
    assert of_captions(words=[listed]) == (
        ("grass", "table"),
        ("dog", "river"),
        ("grass", "dog", "table"),
    )
    assert "dog" not in of_captions(words=[[*listed, "moon"]], blocklist=["dog"])[0]


def test_a_list_a_position_makes_a_pattern_of_parts_of_speech() -> None:
    adjectives, nouns = ["red", "green", "old"], ["table", "dog", "red", "grass", "river"]
    assert of_captions(words=[adjectives, nouns], positions=4) == (
        ("red", "green"),
        ("dog", "grass"),
        ("dog", "grass", "table"),
        ("dog", "grass", "table"),
    )
    # Places that own a pattern share a list out between them.
    shared = of_captions(words=[adjectives, nouns], positions=4, coded=3)
    assert shared[:3] == (("red", "green"), ("dog", "table"), ("grass", "river"))
    with pytest.raises(UsageError, match=r"only 1 of the 2 listed words.*at least 2"):
        of_captions(words=[adjectives, ["dog", "red"]])


def test_words_below_the_floor_are_left_out() -> None:
    with pytest.raises(UsageError, match="3 usable trigger words that 2 captions use"):
        of_captions(least=2)
    assert of_captions(least=2, coded=1, size=8)[0] == ("dog", "grass", "red")


def test_a_list_without_enough_usable_words_says_which_were_refused() -> None:
    with pytest.raises(
        UsageError, match=r"only 3 of the 5 listed.*at least 4.*qwertyuiop, Two-word"
    ):
        of_captions(words=[["dog", "ball", "qwertyuiop", "Two-word", "river"]])


def test_full_vocabulary_is_the_same_at_every_position() -> None:
    vocabulary = full_vocabulary(TOKENIZER, positions=5, size=100, blocklist=["love"])
    assert vocabulary.positions == 5
    assert len(set(vocabulary.words)) == 1
    assert len(vocabulary.words[0]) == 100
    assert "love" not in vocabulary.words[0]
