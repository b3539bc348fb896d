"""MEM on a batch, against surrogates that are really fitted (a few steps, 32 px)."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from unlearnable.pipeline.errors import UsageError
from unlearnable.pipeline.method.config import FitConfig, MethodConfig
from unlearnable.pipeline.method.fit import fit_surrogate
from unlearnable.pipeline.method.hotflip import CANDIDATES, search_triggers
from unlearnable.pipeline.method.microbatch import MicroBatch
from unlearnable.pipeline.method.objective import swap_loss
from unlearnable.pipeline.method.passes import Passes
from unlearnable.pipeline.method.perceptual import bound_map
from unlearnable.pipeline.method.protected import ProtectedBatch
from unlearnable.pipeline.method.protector import BatchProtector, protect_batch
from unlearnable.pipeline.method.surrogate import Surrogate, image_digest
from unlearnable.pipeline.method.tokens import insert_trigger
from unlearnable.pipeline.method.vocabulary import leading_ids

WORDS = [
    "red",
    "dog",
    "blue",
    "ball",
    "green",
    "car",
    "old",
    "house",
    "small",
    "tree",
    "big",
    "cat",
    "wet",
    "street",
]
CAPTIONS = [
    [f"a {WORDS[i % 14]} {WORDS[(3 * i + 1) % 14]}", f"the {WORDS[i % 14]}"] for i in range(24)
]
SMALL = FitConfig(
    strength="gentle",
    image_size=32,
    trigger_words=3,
    batch_size=12,
    rounds=2,
    steps_per_round=2,
    key="6b" * 32,
)


@pytest.fixture(scope="module")
def images() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(24, 3, 4, 4, generator=generator) * 255
    return torch.nn.functional.interpolate(coarse, size=32, mode="bicubic").clamp(0, 255).byte()


@pytest.fixture(scope="module")
def coded(images: Tensor) -> Surrogate:
    return fit_surrogate(images, CAPTIONS, SMALL)


@pytest.fixture(scope="module")
def paper(images: Tensor) -> Surrogate:
    settings = dataclasses.replace(SMALL, schedule="paper", pgd_steps=3, hotflip_rounds=1)
    return fit_surrogate(images, CAPTIONS, settings)


def assert_sound(images: list[Tensor], batch: ProtectedBatch, epsilon: int) -> None:
    for image, delta in zip(images, batch.delta, strict=True):
        assert delta.dtype == torch.int8
        assert delta.shape == image.shape
        assert delta.int().abs().max() <= epsilon
        levels = image.int() + delta.int()
        assert levels.min() >= 0
        assert levels.max() <= 255


def test_the_default_writes_the_code_of_the_trigger_words(images: Tensor, coded: Surrogate) -> None:
    sources = list(images[:7])
    batch = protect_batch(coded, sources, CAPTIONS[:7], MethodConfig(), seed=3)
    assert_sound(sources, batch, 8)
    assert coded.code is not None
    for image, delta, ids in zip(sources, batch.delta, batch.trigger_ids, strict=True):
        choice = [row.index(i) for row, i in zip(coded.vocabulary.ids, ids, strict=True)]
        bound = bound_map(image[None], 8, coded.floor)
        pattern = coded.code.compose(
            torch.tensor([choice]), [image_digest(image)], ["colour"], bound
        )
        expected = (image.int() + pattern[0].int()).clamp(0, 255) - image.int()
        assert torch.equal(delta.int(), expected)
    assert batch.shuffle_seeds == []
    assert batch.passes.image_backward == 0


def test_a_fit_after_a_trial_is_the_fit_of_what_it_decided(
    images: Tensor, coded: Surrogate
) -> None:
    assert coded.meta["fit"]["topics"] is True
    decided = dataclasses.replace(SMALL, topics=True)
    direct = fit_surrogate(images, CAPTIONS, decided)
    assert direct.code is not None
    assert direct.code == coded.code
    assert direct.meta["clean_loss"] is None
    assert direct.meta["curve"] == coded.meta["curve"]


@pytest.mark.parametrize("schedule", ["coded", "paper"])
def test_equal_seeds_give_equal_results_and_others_do_not(
    images: Tensor, schedule: str, request: pytest.FixtureRequest
) -> None:
    surrogate = request.getfixturevalue(schedule)
    sources = [image.flip(-1) for image in images[:6]]
    protector = BatchProtector(surrogate, MethodConfig(steps=2))
    first, again, other = (protector(sources, CAPTIONS[:6], seed) for seed in (1, 1, 2))
    assert first.trigger_ids == again.trigger_ids
    assert first.loss_after == again.loss_after
    assert all(map(torch.equal, first.delta, again.delta))
    assert not all(map(torch.equal, first.delta, other.delta))
    assert len(first.shuffle_seeds) == 2 * len(surrogate.sequence)
    assert len(set(first.shuffle_seeds)) == len(first.shuffle_seeds)


def test_triggers_read_back_from_the_written_caption(images: Tensor, coded: Surrogate) -> None:
    batch = protect_batch(coded, list(images[:5]), CAPTIONS[:5], MethodConfig(), seed=0)
    for text, ids, (caption, _) in zip(
        batch.trigger_text, batch.trigger_ids, CAPTIONS[:5], strict=True
    ):
        assert leading_ids(coded.tokenizer, f"{text} {caption}", 3) == ids


def test_sizes_may_be_mixed(coded: Surrogate) -> None:
    generator = torch.Generator().manual_seed(1)
    sizes = [(32, 32), (50, 40), (32, 32), (17, 90)]
    sources = [
        torch.randint(0, 256, (3, h, w), generator=generator).to(torch.uint8) for h, w in sizes
    ]
    batch = protect_batch(coded, sources, CAPTIONS[:4], MethodConfig(steps=2), seed=0)
    assert_sound(sources, batch, 8)


@pytest.mark.parametrize("epsilon", [1, 4, 64])
def test_steps_stay_within_the_bound_and_keep_the_codes_signs(
    images: Tensor, coded: Surrogate, epsilon: int
) -> None:
    sources = list(images[:6])
    plain = protect_batch(coded, sources, CAPTIONS[:6], MethodConfig(epsilon=epsilon), seed=4)
    config = MethodConfig(epsilon=epsilon, steps=3)
    batch = protect_batch(coded, sources, CAPTIONS[:6], config, seed=4)
    assert_sound(sources, batch, epsilon)
    for code, delta in zip(plain.delta, batch.delta, strict=True):
        assert (code.int() * delta.int() >= 0).all()
    assert any(not torch.equal(a, b) for a, b in zip(plain.delta, batch.delta, strict=True))


def test_a_batch_of_one_is_protected(images: Tensor, paper: Surrogate) -> None:
    source = [images[0].flip(-1)]
    assert_sound(source, protect_batch(paper, source, CAPTIONS[:1], MethodConfig(), seed=0), 8)


def test_the_paper_schedule_gives_seen_and_unseen_samples_of_any_size_the_same_visits(
    images: Tensor, paper: Surrogate
) -> None:
    wide = torch.nn.functional.interpolate(images[:2].float(), size=(40, 52)).byte()
    sources = [images[0], images[3].flip(-1), wide[0], images[2], wide[1].flip(-1)]
    batch = protect_batch(paper, sources, CAPTIONS[:5], MethodConfig(), seed=0)
    assert_sound(sources, batch, 8)
    # Two rounds of three steps that never leave a picture out; no step moves more than a level.
    assert all(1 <= int(delta.int().abs().max()) <= 6 for delta in batch.delta)
    assert all((delta != 0).float().mean() > 0.5 for delta in batch.delta)
    assert len(set(batch.shuffle_seeds)) == 2 * 3
    # The fit's own visits to 24 samples cost the same; only the losses are not measured there.
    fitted = {kind: count * 5 // 24 for kind, count in paper.meta["visit_passes"].items()}
    losses = Passes(image_forward=10, text_forward=10)
    losses.add(Passes(**fitted))
    assert batch.passes.as_dict() == losses.as_dict()


def test_rounds_are_replayed_with_their_own_weights_in_their_order(
    images: Tensor, paper: Surrogate
) -> None:
    assert len(paper.sequence) == 2
    matrices = [value for value in paper.sequence[0].values() if value.ndim > 1]
    assert {value.dtype for value in matrices} == {torch.bfloat16}
    turned = dataclasses.replace(paper, sequence=paper.sequence[::-1])
    last = dataclasses.replace(paper, sequence=paper.sequence[-1:], architectures=["tiny"])
    found, other, short = (
        protect_batch(one, list(images[:4]), CAPTIONS[:4], MethodConfig(shuffle=False), seed=0)
        for one in (paper, turned, last)
    )
    assert not all(map(torch.equal, found.delta, other.delta))
    assert found.shuffle_seeds == []
    assert short.passes.image_backward * 2 == found.passes.image_backward


def test_the_paper_schedule_lowers_the_loss_it_minimises(images: Tensor, paper: Surrogate) -> None:
    batch = protect_batch(paper, list(images), CAPTIONS, MethodConfig(), seed=0)
    assert sum(batch.loss_after) < sum(batch.loss_before)


def test_a_surrogate_survives_its_state(images: Tensor, paper: Surrogate, coded: Surrogate) -> None:
    for surrogate in (paper, coded):
        twin = Surrogate.from_state(*surrogate.state())
        one, two = (
            protect_batch(s, list(images[:4]), CAPTIONS[:4], MethodConfig(steps=1), seed=9)
            for s in (surrogate, twin)
        )
        assert all(map(torch.equal, one.delta, two.delta))
        assert one.trigger_text == two.trigger_text


def test_a_surrogate_with_a_part_missing_is_refused(coded: Surrogate) -> None:
    tensors, meta = coded.state()
    first_round = {k: v for k, v in tensors.items() if not k.startswith("round001.")}
    with pytest.raises(UsageError, match="fit it again"):
        Surrogate.from_state(first_round, meta)
    with pytest.raises(UsageError, match="fit it again"):
        Surrogate.from_state(tensors, {k: v for k, v in meta.items() if k != "vocabulary"})


def test_fit_is_reproducible_and_counts_its_passes(images: Tensor, coded: Surrogate) -> None:
    again = fit_surrogate(images, CAPTIONS, SMALL)
    assert again.meta["curve"] == coded.meta["curve"]
    # Two steps of the trial on clean pairs, and two in each of the two rounds.
    assert again.meta["passes"]["image_backward"] == (2 + 2 * 2) * 12


def test_random_noise_uses_the_whole_budget_and_no_surrogate(images: Tensor) -> None:
    sources = [image.clamp(8, 247) for image in images[:3]]
    batch = protect_batch(None, sources, CAPTIONS[:3], MethodConfig(method="random", epsilon=5), 0)
    assert all(set(delta.unique().tolist()) == {-5, 5} for delta in batch.delta)
    assert batch.trigger_text == ["", "", ""]


@pytest.mark.parametrize(
    "config", [MethodConfig(epsilon=0), MethodConfig(epsilon=65), MethodConfig(steps=-1)]
)
def test_settings_out_of_range_are_refused(config: MethodConfig, coded: Surrogate) -> None:
    with pytest.raises(UsageError, match="must be"):
        BatchProtector(coded, config)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": -1}, "image-size is -1"),
        ({"context_length": 5}, "reads 5 tokens .*, a trigger of 3 words needs at least 6"),
        ({"rounds": 0}, "rounds is 0"),
        ({"steps_per_round": -1}, "steps-per-round is -1"),
        ({"pgd_steps": -1}, "pgd-steps is -1"),
        ({"trigger_words": 17}, "trigger-words is 17"),
        ({"epsilon": 0}, "epsilon is 0"),
    ],
)
def test_fit_refuses_settings_out_of_range(change: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        dataclasses.replace(SMALL, **change).validate()  # type: ignore[arg-type]


def test_mem_needs_a_surrogate() -> None:
    with pytest.raises(UsageError, match="unlearnable fit"):
        BatchProtector(None, MethodConfig())


def test_hotflip_with_all_words_as_candidates_finds_each_samples_best(
    images: Tensor, coded: Surrogate
) -> None:
    model = coded.models("cpu")[-1]
    bodies = coded.tokenizer([texts[0] for texts in CAPTIONS[:5]])
    words = coded.vocabulary.allowed("cpu")[0]
    start = words[torch.zeros(5, dtype=torch.int64)][:, None]
    generator = torch.Generator().manual_seed(0)
    features = torch.nn.functional.normalize(torch.randn(5, 128, generator=generator), dim=-1)
    assert len(words) <= CANDIDATES
    found = search_triggers(model, features, bodies, start, [words], Passes(), MicroBatch())
    with torch.no_grad():
        now = model.encode_text(insert_trigger(bodies, start), normalize=True)
        rows = [insert_trigger(bodies, w.expand(5, 1)) for w in words]
        every = torch.stack([model.encode_text(row, normalize=True) for row in rows], dim=1)
        losses = swap_loss(features, now, every, model.logit_scale.exp())
    assert torch.equal(found[:, 0], words[losses.argmin(dim=1)])
    assert len(found.unique()) > 1


def test_equal_pictures_get_equal_words_and_patterns_where_chance_chooses(
    images: Tensor, coded: Surrogate
) -> None:
    chance = dataclasses.replace(coded, topics=None)
    sources = [images[0], images[1], images[0].clone()]
    batch = protect_batch(chance, sources, CAPTIONS[:3], MethodConfig(), seed=0)
    assert torch.equal(batch.delta[0], batch.delta[2])
    assert batch.trigger_ids[0] == batch.trigger_ids[2]
    elsewhere = protect_batch(chance, sources[:2], CAPTIONS[3:5], MethodConfig(), seed=7)
    assert torch.equal(batch.delta[0], elsewhere.delta[0])


@pytest.mark.parametrize("size", [(32, 32), (50, 40)])
@pytest.mark.parametrize("schedule", ["coded", "paper"])
def test_greyscale_pictures_stay_grey_through_steps(
    size: tuple[int, int], schedule: str, request: pytest.FixtureRequest
) -> None:
    generator = torch.Generator().manual_seed(2)
    colour = torch.randint(0, 256, (3, *size), generator=generator).to(torch.uint8)
    sources = [colour[:1].repeat(3, 1, 1), colour, colour[1:2].repeat(3, 1, 1)]
    surrogate = request.getfixturevalue(schedule)
    batch = protect_batch(surrogate, sources, CAPTIONS[:3], MethodConfig(steps=3), seed=0)
    assert_sound(sources, batch, 8)
    for delta in batch.delta[::2]:
        assert torch.equal(delta, delta[:1].expand_as(delta))
        assert delta.abs().max() > 0
    assert not torch.equal(batch.delta[1], batch.delta[1][:1].expand_as(colour))


def test_steps_keep_to_the_bound_map(images: Tensor, coded: Surrogate) -> None:
    sources = list(images[:4] // 4 + 96)
    batch = protect_batch(coded, sources, CAPTIONS[:4], MethodConfig(steps=4), seed=0)
    for image, delta in zip(sources, batch.delta, strict=True):
        bound = bound_map(image[None], 8, coded.floor)[0]
        assert (delta.abs() <= bound).all()
        assert bound.min() < 8
