"""What results say in words: shares of clean, or that there is no conclusion."""

from __future__ import annotations

from dataclasses import replace

import pytest

from unlearnable.pipeline.evaluate.results import Results, VictimResult
from unlearnable.pipeline.evaluate.retrieval import Retrieval, Scores
from unlearnable.pipeline.evaluate.verdict import verdicts
from unlearnable.pipeline.evaluate.victim import EpochPoint


def victim(name: str, hit10: float, seed: int = 0, attack: str | None = None) -> VictimResult:
    scores = Scores(hit1=0.0, hit5=0.0, hit10=hit10, medr=100.0)
    chance = Scores(hit1=0.1, hit5=0.5, hit10=1.0, medr=500.0)
    return VictimResult(
        name=name,
        seed=seed,
        config={},
        curve=[EpochPoint(1, 1.0, Retrieval(scores, scores))],
        chance=Retrieval(chance, chance),
        samples=5000,
        skipped=0,
        test_samples=1000,
        test_captions=1000,
        seconds=1.0,
        device="cpu",
        versions={},
        attack=attack,
    )


def test_a_sentence_tells_what_is_found_of_a_hundred() -> None:
    results = Results((victim("clean", 18.0), victim("copy", 2.0)))
    (sentence,) = verdicts(results)
    assert sentence == (
        "copy: the model finds the right caption of 2 of 100 unseen pictures among its first 10 "
        "answers; trained on the originals, of 18; guessing finds 1. Share of the originals: 11 % "
        "image to text, 11 % text to image."
    )


def test_several_seeds_have_a_spread() -> None:
    hits = (("clean", 20.0), ("clean", 20.0), ("copy", 2.0), ("copy", 4.0))
    results = Results(tuple(victim(n, h, seed % 2) for seed, (n, h) in enumerate(hits)))
    (sentence,) = verdicts(results)
    assert "15 ± 7 % image to text" in sentence


def test_an_attacked_copy_is_compared_with_originals_treated_alike() -> None:
    rows = (("clean", 20.0, None), ("clean", 10.0, "gray"), ("copy", 5.0, "gray"))
    results = Results(tuple(victim(name, hit, attack=attack) for name, hit, attack in rows))
    (sentence,) = verdicts(results)
    assert "on the originals after the same treatment, of 10" in sentence
    assert "50 % image to text" in sentence


@pytest.mark.parametrize(
    ("clean", "images", "reason"),
    [
        (2.9, 1000, "reaches 2.9 % image to text, which is less than 3 times chance"),
        (18.0, 199, "the test set has 199 pictures, 200 are needed"),
    ],
)
def test_too_little_data_gives_no_conclusion(clean: float, images: int, reason: str) -> None:
    found = (victim("clean", clean), victim("copy", 0.5))
    results = Results(tuple(replace(one, test_samples=images) for one in found))
    (sentence,) = verdicts(results)
    assert sentence.startswith("Too little data, no conclusion: ")
    assert reason in sentence


def test_without_originals_there_is_no_conclusion() -> None:
    (sentence,) = verdicts(Results((victim("copy", 2.0),)))
    assert "no model was trained on the originals" in sentence
