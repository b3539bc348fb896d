"""Several surrogates in one fit: they take turns, and the artifact carries them all."""

from __future__ import annotations

import dataclasses
from copy import deepcopy

import pytest
import torch
from torch import Tensor

from unlearnable.pipeline.errors import UsageError
from unlearnable.pipeline.method.config import FitConfig, MethodConfig
from unlearnable.pipeline.method.ensemble import common_spec
from unlearnable.pipeline.method.fit import fit_surrogate
from unlearnable.pipeline.method.protector import protect_batch
from unlearnable.pipeline.method.rounds import State
from unlearnable.pipeline.method.surrogate import Surrogate, Weights

WORDS = ("red", "dog", "blue", "ball", "green", "car", "old", "house", "small", "tree", "big")
CAPTIONS = [[f"a {WORDS[i % 11]} {WORDS[(3 * i + 1) % 11]}"] for i in range(12)]
SMALL = FitConfig(
    model="tiny,tiny",
    image_size=32,
    trigger_words=3,
    batch_size=6,
    rounds=2,
    steps_per_round=1,
)
PAPER = dataclasses.replace(SMALL, schedule="paper", pgd_steps=2, hotflip_rounds=1)


def images(*sizes: tuple[int, int]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(0, 256, (3, *s), generator=generator).to(torch.uint8) for s in sizes]


def differ(one: Weights, other: Weights) -> bool:
    return any(not torch.equal(value, other[name]) for name, value in one.items())


@pytest.fixture(scope="module")
def pair() -> Surrogate:
    return fit_surrogate(torch.stack(images(*[(32, 32)] * 12)), CAPTIONS, SMALL)


def test_each_round_leaves_the_weights_of_every_model(pair: Surrogate) -> None:
    assert pair.architectures == ["tiny"] * 4
    assert len(pair.sequence) == 4
    assert differ(pair.sequence[0], pair.sequence[1])
    assert differ(pair.sequence[0], pair.sequence[2])
    alone = dataclasses.replace(SMALL, model="tiny", steps_per_round=0)
    first = fit_surrogate(torch.stack(images(*[(32, 32)] * 12)), CAPTIONS, alone)
    still = dataclasses.replace(SMALL, steps_per_round=0)
    both = fit_surrogate(torch.stack(images(*[(32, 32)] * 12)), CAPTIONS, still)
    assert not differ(first.sequence[0], both.sequence[0])


def test_the_artifact_carries_all_of_them_and_protect_replays_them(pair: Surrogate) -> None:
    again = Surrogate.from_state(*pair.state())
    assert again.architectures == pair.architectures
    sources, config = images((32, 32), (40, 50)), MethodConfig(steps=1)
    found = protect_batch(pair, sources, CAPTIONS[:2], config, seed=1)
    replayed = protect_batch(again, sources, CAPTIONS[:2], config, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(found.delta, replayed.delta, strict=True))
    # Two rounds of one step, which the models take in turns.
    assert len(found.shuffle_seeds) == 2
    assert found.passes.image_backward == 2 * 2


def test_the_published_schedule_goes_on_where_it_stood() -> None:
    pixels = torch.stack(images(*[(32, 32)] * 12))
    kept: list[State] = []
    whole = fit_surrogate(pixels, CAPTIONS, PAPER, keep=lambda state: kept.append(deepcopy(state)))
    assert len(whole.sequence) == 2 * 2
    resumed = fit_surrogate(pixels, CAPTIONS, PAPER, state=kept[0])
    assert not any(differ(a, b) for a, b in zip(whole.sequence, resumed.sequence, strict=True))
    assert whole.meta["visit_passes"] == resumed.meta["visit_passes"]


def test_models_that_read_other_sizes_are_refused() -> None:
    with pytest.raises(UsageError, match=r"tiny 64, RN50 224.*--image-size"):
        common_spec("tiny,RN50")
    spec = common_spec("tiny,RN50", image_size=64, context_length=16)
    assert (spec.name, spec.image_size, spec.context_length) == ("tiny", 64, 16)
    with pytest.raises(UsageError, match="no model is called 'small'"):
        common_spec("tiny, small")


def test_architectures_mix_in_one_fit_and_in_its_replay() -> None:
    settings = dataclasses.replace(SMALL, model="tiny, tiny-vit", rounds=1)
    mixed = fit_surrogate(torch.stack(images(*[(32, 32)] * 12)), CAPTIONS, settings)
    again = Surrogate.from_state(*mixed.state())
    assert again.architectures == ["tiny", "tiny-vit"]
    assert again.sequence[0].keys() != again.sequence[1].keys()
    found = protect_batch(again, images((32, 32), (40, 50)), CAPTIONS[:2], MethodConfig(steps=2), 1)
    assert len(found.shuffle_seeds) == 2
    alone = dataclasses.replace(again, sequence=again.sequence[:1], architectures=["tiny"])
    alone.models_a_round = 1
    one = protect_batch(alone, images((32, 32), (40, 50)), CAPTIONS[:2], MethodConfig(steps=2), 1)
    assert not all(map(torch.equal, found.delta, one.delta))
    assert all(loss > 0 for loss in found.loss_after)
