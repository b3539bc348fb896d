from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from unlearnable.pipeline.errors import UsageError
from unlearnable.pipeline.evaluate.attacks import replace_caption, shuffle_words, strip_trigger
from unlearnable.pipeline.evaluate.attacks.inputs import Inputs, Trigger
from unlearnable.pipeline.evaluate.pairs import Pairs

Maker = Callable[[list[list[str]]], Pairs]


def inputs(seed: int = 0, **known: Any) -> Inputs:
    return Inputs(0, seed, "unused", torch.device("cpu"), **known)


def test_the_first_words_go_and_the_rest_stays_letter_by_letter(pairs_of: Maker) -> None:
    pairs = pairs_of([["red  old dog,  two\tcats", "a b c"], ["one"]])
    assert strip_trigger.run(pairs, inputs(trigger=Trigger(2, 8))) == [
        ["dog,  two\tcats", "c"],
        [""],
    ]


def test_words_are_shuffled_each_caption_in_its_own_way(pairs_of: Maker) -> None:
    text = "one two three four five six seven"
    pairs = pairs_of([[text, text], [text, text]])
    shuffled = shuffle_words.run(pairs, inputs())
    flat = [caption for texts in shuffled for caption in texts]
    assert {tuple(sorted(caption.split())) for caption in flat} == {tuple(sorted(text.split()))}
    assert len({*flat, text}) == 5
    assert shuffle_words.run(pairs, inputs()) == shuffled
    assert shuffle_words.run(pairs, inputs(seed=1)) != shuffled


def test_captions_are_replaced_by_those_of_the_same_picture(pairs_of: Maker) -> None:
    clean = pairs_of([["a dog", "one dog"], ["a cat"], ["a cow"]])
    published = pairs_of([["w v a cow"], ["x y a dog", "x y one dog"]])
    published = replace(published, keys=[clean.keys[2], clean.keys[0]])
    assert replace_caption.run(published, inputs(clean=clean)) == [["a cow"], ["a dog", "one dog"]]
    stranger = replace(published, keys=["shard/0000", "other/0000"])
    with pytest.raises(UsageError, match=r"1 of 2 samples \(e.g. other/0000\)"):
        replace_caption.run(stranger, inputs(clean=clean))
