"""Topics: the captions' own words choose the trigger."""

from __future__ import annotations

import dataclasses
import random
from collections import Counter
from typing import Any

import pytest
import torch

from unlearnable.pipeline.method import captions as captions_module
from unlearnable.pipeline.method import fit as fit_module
from unlearnable.pipeline.method.config import FitConfig, MethodConfig
from unlearnable.pipeline.method.fit import fit_surrogate
from unlearnable.pipeline.method.protector import BatchProtector, protect_batch
from unlearnable.pipeline.method.surrogate import Surrogate
from unlearnable.pipeline.method.topics import Topics, fit_topics

THEMES = [
    ["dog", "grass", "ball"],
    ["man", "street", "bicycle"],
    ["child", "pool", "water"],
    ["snow", "mountain", "skier"],
    ["band", "guitar", "stage"],
    ["horse", "field", "rider"],
]


def corpus(samples: int, seed: int = 0) -> tuple[list[list[str]], list[int]]:
    """Five captions a sample, each naming two of the three words of the sample's theme."""
    rng = random.Random(seed)
    themes = [rng.randrange(len(THEMES)) for _ in range(samples)]
    captions = [
        [" ".join(["the", *rng.sample(THEMES[theme], 2), "by a"]) for _ in range(5)]
        for theme in themes
    ]
    return captions, themes


@pytest.fixture(scope="module")
def topics() -> Topics:
    found = fit_topics(corpus(300)[0], positions=3, count=4, seed=0)
    assert found is not None
    return found


def blank(count: int) -> torch.Tensor:
    return torch.full((count, 5), 9)


def test_what_captions_say_decides(topics: Topics) -> None:
    captions, themes = corpus(200, seed=1)
    chosen = topics.choose(captions, blank(200))
    assert chosen[:, 3:].eq(9).all()
    codes = [Counter[tuple[int, ...]]() for _ in THEMES]
    for theme, row in zip(themes, chosen[:, :3].tolist(), strict=True):
        codes[theme][tuple(row)] += 1
    usual = [code.most_common(1)[0] for code in codes]
    assert len({code for code, _ in usual}) == len(THEMES)
    assert sum(count for _, count in usual) >= 0.8 * 200


def test_one_caption_of_a_sample_says_the_same(topics: Topics) -> None:
    captions, _ = corpus(200, seed=2)
    whole = topics.choose(captions, blank(200))
    for number in range(5):
        alone = topics.choose([texts[number : number + 1] for texts in captions], blank(200))
        assert (alone == whole).float().mean() > 0.9


def test_a_sample_is_the_same_in_any_batch(topics: Topics) -> None:
    captions, _ = corpus(40, seed=3)
    whole = topics.choose(captions, blank(40))
    for row, texts in enumerate(captions):
        assert topics.choose([texts], blank(1)).equal(whole[row : row + 1])


def test_captions_without_known_words_are_left_to_chance(topics: Topics) -> None:
    chosen = topics.choose([["zebra"], ["a dog"]], blank(2))
    assert chosen[0].eq(9).all()
    assert chosen[1, :3].lt(4).all()


def test_too_few_words_make_no_topics() -> None:
    assert fit_topics([["a dog"], ["a cat"]], positions=3, count=3, seed=0) is None


def test_topics_survive_the_artifact(topics: Topics) -> None:
    again = Topics.from_tensors(topics.tensors(), list(topics.words))
    assert again is not None
    captions, _ = corpus(50, seed=4)
    assert again.choose(captions, blank(50)).equal(topics.choose(captions, blank(50)))
    assert Topics.from_tensors({}, []) is None


def test_captions_without_spaces_have_topics() -> None:
    sayings = ["一只狗在草地上", "两个男人在街上", "孩子在水里玩", "山上有很多雪"]
    captions = [[sayings[row % 4], sayings[row % 4] + "。"] for row in range(40)]
    found = fit_topics(captions, positions=1, count=4, seed=0)
    assert found is not None
    chosen = found.choose(captions, blank(40))[:, 0].tolist()
    assert len(set(chosen)) >= 3
    assert chosen == chosen[:4] * 10


SETTINGS = FitConfig(
    image_size=32, trigger_words=2, vocabulary=4, batch_size=16, steps_per_round=60
)


def fitted(images: torch.Tensor, captions: list[list[str]]) -> Surrogate:
    return fit_surrogate(images, captions, SETTINGS)


def test_pictures_that_tell_their_topic_leave_words_to_chance() -> None:
    captions, themes = corpus(128)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (128, 3, 32, 32), generator=generator).to(torch.uint8)
    colours = torch.randint(0, 256, (len(THEMES), 3, 1, 1), generator=generator).to(torch.uint8)
    plain = colours[torch.tensor(themes)].expand(128, 3, 32, 32).contiguous()
    read, unread = fitted(plain, captions), fitted(noise, captions)
    assert read.topics is None
    assert read.meta["clean_loss"] < unread.meta["clean_loss"]
    assert unread.topics is not None


def test_captions_without_words_leave_triggers_to_chance_and_say_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    captions = [[f"{row}"] for row in range(16)]
    images = torch.zeros(16, 3, 32, 32, dtype=torch.uint8)
    settings = dataclasses.replace(SETTINGS, topics=True, steps_per_round=0)
    surrogate = fit_surrogate(images, captions, settings)
    assert surrogate.topics is None
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == ["the captions use too few words for topics: chance draws the triggers"]


def test_equal_pictures_of_a_batch_share_words_whatever_their_captions_say() -> None:
    captions, _ = corpus(64)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (64, 3, 32, 32), generator=generator).to(torch.uint8)
    settings = dataclasses.replace(SETTINGS, topics=True, steps_per_round=0)
    surrogate = fit_surrogate(images, captions, settings)
    assert surrogate.topics is not None
    sources = [images[0] if row % 2 else images[row] for row in range(16)]
    texts = [[f"the {THEMES[row % 6][0]} by a {THEMES[row % 6][1]}"] for row in range(16)]
    batch = protect_batch(surrogate, sources, texts, MethodConfig(), seed=0)
    repeats = [batch.delta[row] for row in range(1, 16, 2)]
    assert all(delta.equal(repeats[0]) for delta in repeats)
    assert len({tuple(batch.trigger_ids[row]) for row in range(1, 16, 2)}) == 1
    assert len({tuple(ids) for ids in batch.trigger_ids}) > 2


def test_equal_pictures_of_later_batches_share_the_words_of_the_first() -> None:
    captions, _ = corpus(64)
    images = torch.randint(0, 256, (64, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    settings = dataclasses.replace(SETTINGS, topics=True, steps_per_round=0)
    surrogate = fit_surrogate(images.to(torch.uint8), captions, settings)
    protector, sources = BatchProtector(surrogate, MethodConfig()), list(images[:6].byte())

    def words(turn: int, earlier: dict[str, list[str]]) -> list[list[int]]:
        themes = [THEMES[(row + turn) % 6] for row in range(6)]
        texts = [[f"the {noun} by a {place}"] for noun, place, _ in themes]
        return protector(sources, texts, 0, earlier=earlier).trigger_ids

    known: dict[str, list[str]] = {}
    first = words(0, known)
    assert words(1, known) == words(2, known) == first
    assert words(1, {}) != first


def test_the_trial_is_told_and_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found: list[Topics | None] = []

    def noted(*arguments: Any) -> Topics | None:
        found.append(fit_topics(*arguments))
        return found[-1]

    monkeypatch.setattr(captions_module, "fit_topics", noted)
    monkeypatch.setattr(fit_module, "_TRIAL_STEPS", 2)
    held, told = 64 // 8, []
    settings = dataclasses.replace(SETTINGS, steps_per_round=3)
    images = torch.zeros(64, 3, 32, 32, dtype=torch.uint8)
    surrogate = fit_surrogate(
        images, corpus(64)[0], settings, lambda done, total, _: told.append((done, total))
    )
    assert surrogate.topics is found[0]
    assert len(found) == 1
    # Two steps on clean pairs, then three.
    assert told == [(done, 5) for done in (1, 2, 3, 4, 5)]
    trained = 5 * settings.batch_size
    assert surrogate.meta["passes"] == {
        "image_forward": trained + held,
        "image_backward": trained,
        "text_forward": trained + held,
        "text_backward": trained,
    }
