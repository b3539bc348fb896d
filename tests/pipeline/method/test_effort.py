"""--effort: how many passes it takes, and what they buy."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from unlearnable.pipeline.errors import UsageError
from unlearnable.pipeline.execution.artifact import load_surrogate
from unlearnable.pipeline.method.config import FitConfig, MemConfig
from unlearnable.pipeline.method.effort import pair_loss
from unlearnable.pipeline.method.fit import fit_surrogate
from unlearnable.pipeline.method.mem import ProtectedBatch, protect_batch
from unlearnable.pipeline.method.objective import info_nce
from unlearnable.pipeline.method.passes import Passes
from unlearnable.pipeline.method.surrogate import Surrogate
from unlearnable.pipeline.method.topics import Topics

CAPTIONS = [[f"a {word} thing"] for word in ("red", "old", "big", "small", "blue", "green")]


@pytest.fixture(scope="module")
def coded(surrogate: str) -> Surrogate:
    return replace(load_surrogate(surrogate)[0], topics=None)


def white_and_grey() -> list[Tensor]:
    return [torch.full((3, 48, 48), level, dtype=torch.uint8) for level in (255, 128) * 3]


def run(surrogate: Surrogate, config: MemConfig) -> ProtectedBatch:
    return protect_batch(surrogate, white_and_grey(), CAPTIONS, config, seed=4)


def test_the_loss_of_a_pair_is_that_of_the_batch_after_the_swap() -> None:
    generator = torch.Generator().manual_seed(0)
    image, text, images, texts = (
        F.normalize(torch.randn(5, 8, generator=generator), dim=-1) for _ in range(4)
    )
    scale = torch.tensor(14.0)
    found = pair_loss(image, text, images, texts, scale)
    for row in range(5):
        swapped = [whole.clone() for whole in (images, texts)]
        swapped[0][row], swapped[1][row] = image[row], text[row]
        assert found[row] == pytest.approx(info_nce(*swapped, scale)[row].item(), rel=1e-5)


@pytest.mark.parametrize("effort", [2, 5])
def test_a_coded_sample_costs_what_was_allowed(coded: Surrogate, effort: int) -> None:
    passes = Passes.by_tower(run(coded, MemConfig(effort=effort)).passes.as_dict())
    assert passes["image"] == pytest.approx(6 * effort)


def test_patterns_stay_whole_and_belong_to_the_words(coded: Surrogate) -> None:
    drawn, chosen = run(coded, MemConfig()), run(coded, MemConfig(effort=6))
    assert drawn.trigger_ids != chosen.trigger_ids
    assert coded.code is not None
    for image, delta, ids in zip(white_and_grey(), chosen.delta, chosen.trigger_ids, strict=True):
        words = [row.index(token) for row, token in zip(coded.vocabulary.ids, ids, strict=True)]
        signs = coded.code.compose(torch.tensor([words]), 48, 48)[0].int()
        assert torch.equal(delta.int(), (image.int() + 8 * signs).clamp(0, 255) - image.int())


def test_more_passes_make_words_that_are_told_apart_better(coded: Surrogate) -> None:
    losses = [sum(run(coded, MemConfig(effort=e)).loss_after) for e in (None, 8)]
    assert losses[1] < losses[0]
    again = run(coded, MemConfig(effort=8))
    assert again.trigger_ids == run(coded, MemConfig(effort=8)).trigger_ids


def test_without_a_code_passes_are_pgd_steps() -> None:
    images = torch.stack([F.interpolate(i[None].float(), 32)[0].byte() for i in white_and_grey()])
    settings = FitConfig(
        schedule="paper", image_size=32, trigger_words=2, rounds=1, steps_per_round=0, pgd_steps=0
    )
    surrogate = fit_surrogate(images, CAPTIONS, settings)
    found = protect_batch(surrogate, white_and_grey(), CAPTIONS, MemConfig(effort=4), seed=0)
    assert len(found.shuffle_seeds) == 3
    assert Passes.by_tower(found.passes.as_dict())["image"] == pytest.approx(6 * 4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"effort": 1}, "effort is 1; it must be 2..64"),
        ({"effort": 65}, "effort is 65"),
        ({"effort": 4, "steps": 2}, "give one of them"),
        ({"effort": 4, "method": "random"}, "method random takes no passes"),
    ],
)
def test_efforts_that_cannot_be_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        MemConfig(**settings).validate()  # type: ignore[arg-type]


def test_words_that_captions_choose_are_not_exchanged(coded: Surrogate) -> None:
    topics = Topics(("red",), torch.zeros(1, 1, 1), torch.zeros(1, 1), torch.zeros(1))
    with pytest.raises(UsageError, match="--no-topics"):
        run(replace(coded, topics=topics), MemConfig(effort=4))
