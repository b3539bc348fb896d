"""The baselines, against surrogates that are really fitted (a few steps, 32 px)."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from unlearnable.pipeline.errors import UsageError
from unlearnable.pipeline.method.config import FitConfig, MethodConfig
from unlearnable.pipeline.method.fit import fit_surrogate
from unlearnable.pipeline.method.models import to_model_input
from unlearnable.pipeline.method.pgd import targets
from unlearnable.pipeline.method.protector import protect_batch
from unlearnable.pipeline.method.surrogate import Surrogate

WORDS = ["red", "blue", "green", "dog", "cat", "car"]
CAPTIONS = [[f"a {word} thing", f"the {word}"] for word in WORDS] * 4
FITS = {
    method: FitConfig(
        method=method,
        image_size=32,
        batch_size=12,
        rounds=2,
        steps_per_round=6,
        pgd_steps=2,
    )
    for method in ("em", "tap", "tap-untargeted", "uap")
}
METHODS = pytest.mark.parametrize("method", FITS)


@pytest.fixture(scope="module")
def images() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (24, 3, 32, 32), generator=generator).to(torch.uint8)


@pytest.fixture(scope="module")
def surrogates(images: Tensor) -> dict[str, Surrogate]:
    fitted = {name: fit_surrogate(images, CAPTIONS, config) for name, config in FITS.items()}
    return {name: Surrogate.from_state(*found.state()) for name, found in fitted.items()}


@METHODS
def test_a_baseline_perturbs_images_and_leaves_captions_alone(
    method: str, images: Tensor, surrogates: dict[str, Surrogate]
) -> None:
    config = MethodConfig(method=method, epsilon=4)
    batch = protect_batch(surrogates[method], list(images), CAPTIONS, config, seed=0)
    assert batch.trigger_text == [""] * 24
    assert batch.trigger_ids == [[]] * 24
    for image, delta in zip(images, batch.delta, strict=True):
        levels = image.int() + delta.int()
        assert levels.min() >= 0
        assert levels.max() <= 255
        assert 0 < delta.int().abs().max() <= 4


def test_em_descends_in_every_round_and_shuffles_nothing(
    images: Tensor, surrogates: dict[str, Surrogate]
) -> None:
    config = MethodConfig(method="em")
    for sources in (images, images.flip(-1)):
        batch = protect_batch(surrogates["em"], list(sources), CAPTIONS, config, seed=0)
        # Two rounds of two steps.
        assert max(int(delta.int().abs().max()) for delta in batch.delta) == 4
        assert batch.passes.image_backward == 4 * 24
        assert sum(batch.loss_after) < sum(batch.loss_before)
        assert batch.shuffle_seeds == []


def test_untargeted_tap_climbs_the_loss_of_a_clean_checkpoint(
    images: Tensor, surrogates: dict[str, Surrogate]
) -> None:
    config = MethodConfig(method="tap-untargeted")
    batch = protect_batch(surrogates["tap-untargeted"], list(images), CAPTIONS, config, seed=0)
    assert len(surrogates["tap-untargeted"].sequence) == 1
    assert batch.passes.image_backward == 8 * 24
    assert sum(batch.loss_after) > sum(batch.loss_before)
    assert batch.shuffle_seeds == []


@pytest.mark.parametrize(
    ("method", "rounds", "steps"), [("mem", 20, 8), ("em", 5, 50), ("tap-untargeted", 20, 0)]
)
def test_the_published_settings_are_those_of_the_authors_code(
    method: str, rounds: int, steps: int
) -> None:
    config = FitConfig(method=method, schedule="paper")
    assert (config.round_count, config.visit_steps) == (rounds, steps)


def test_tap_moves_images_towards_the_captions_of_their_targets(
    images: Tensor, surrogates: dict[str, Surrogate]
) -> None:
    surrogate = surrogates["tap"]
    batch = protect_batch(surrogate, list(images), CAPTIONS, MethodConfig(method="tap"), seed=0)
    model = surrogate.models("cpu")[0]
    goal = targets(24, batch.shuffle_seeds[0])
    tokens = surrogate.tokenizer([CAPTIONS[i][0] for i in goal.tolist()])

    def closeness(pixels: Tensor) -> float:
        with torch.no_grad():
            seen = model.encode_image(to_model_input(pixels, surrogate.spec), normalize=True)
            return float((seen * model.encode_text(tokens, normalize=True)).sum(1).mean())

    moved = images.to(torch.int16) + torch.stack(batch.delta)
    assert len(set(batch.shuffle_seeds)) == 1
    assert closeness(moved) > closeness(images)


def test_uap_is_one_perturbation_that_raises_the_loss(
    images: Tensor, surrogates: dict[str, Surrogate]
) -> None:
    universal = surrogates["uap"].fitted["universal"]
    batch = protect_batch(surrogates["uap"], list(images), CAPTIONS, MethodConfig(method="uap"), 0)
    for image, delta in zip(images, batch.delta, strict=True):
        inside = (image.int() + universal.int() >= 0) & (image.int() + universal.int() <= 255)
        assert torch.equal(delta[inside], universal[inside])
    assert sum(batch.loss_after) > sum(batch.loss_before)
    wide = [torch.zeros(3, 40, 64, dtype=torch.uint8) + 128]
    stretched = protect_batch(surrogates["uap"], wide, [["a"]], MethodConfig(method="uap"), 0)
    assert stretched.delta[0].shape == (3, 40, 64)


def test_a_surrogate_of_another_method_is_refused(surrogates: dict[str, Surrogate]) -> None:
    image = torch.zeros(3, 32, 32, dtype=torch.uint8)
    with pytest.raises(UsageError, match="fitted for method em, not tap"):
        protect_batch(surrogates["em"], [image], [["a"]], MethodConfig(method="tap"), 0)
    with pytest.raises(UsageError, match="needs a surrogate"):
        protect_batch(None, [image], [["a"]], MethodConfig(method="uap"), 0)


@pytest.mark.parametrize("count", [1, 2, 7, 128])
def test_targets_are_one_cycle_through_all_samples(count: int) -> None:
    found = targets(count, seed=3)
    seen, at = set(), 0
    while at not in seen:
        seen.add(at)
        at = int(found[at])
    assert seen == set(range(count))


@pytest.mark.parametrize("part", ["image", "text"])
def test_an_ablation_publishes_one_part(images: Tensor, part: str) -> None:
    settings = dataclasses.replace(FITS["em"], method="mem", trigger_words=2)
    surrogate = fit_surrogate(images, CAPTIONS, settings)
    config = MethodConfig(part=part)  # type: ignore[arg-type]
    batch = protect_batch(surrogate, list(images), CAPTIONS, config, seed=0)
    changed = any(bool(delta.any()) for delta in batch.delta)
    assert changed == (part == "image")
    assert all((len(ids) == 2) == (part == "text") for ids in batch.trigger_ids)
    with pytest.raises(UsageError, match="has no pair"):
        dataclasses.replace(config, method="em").validate()
