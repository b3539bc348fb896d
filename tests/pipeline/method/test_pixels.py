"""Native pixels: groups of bounded size, views and codecs between them and the model."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from unlearnable.pipeline.method import pixels as pixels_module
from unlearnable.pipeline.method.models import model_spec, to_model_input
from unlearnable.pipeline.method.pixels import PixelBatch
from unlearnable.pipeline.method.views import Views

SPEC = model_spec("tiny", image_size=32)
SIZES = [(32, 32), (50, 40), (32, 32), (90, 17), (50, 40), (32, 32), (32, 64)]


def images(sizes: Sequence[tuple[int, int]]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(0, 256, (3, *s), generator=generator).to(torch.uint8) for s in sizes]


def stepped(pixels: PixelBatch, view: int = 0) -> list[Tensor]:
    """Take three steps up the brightness of the left half of what the model sees."""
    for step in range(3):
        pixels.draw_view(view + step)
        seen, _ = pixels.step_input()
        slope = torch.zeros_like(seen)
        slope[..., :16] = -1
        slope[..., 16:] = torch.linspace(-1, 1, 16)
        pixels.step([slope], 1, 8, None)
    return pixels.split_deltas()


def test_a_budget_cuts_groups_and_changes_no_result() -> None:
    free = PixelBatch(images(SIZES), SPEC)
    bound = PixelBatch(images(SIZES), SPEC, budget=2100)
    assert len(free.members) == 4
    assert sorted(len(group) for group in bound.members) == [1, 1, 1, 1, 1, 2]
    assert max(group.shape[0] * group.shape[2] * group.shape[3] for group in bound.images) <= 2100
    assert torch.equal(free.seen(), bound.seen())
    for one, other in zip(stepped(free), stepped(bound), strict=True):
        assert torch.equal(one, other)
        assert one.abs().max() > 0


def test_an_image_above_the_budget_is_alone() -> None:
    assert PixelBatch(images([(50, 40), (50, 40)]), SPEC, budget=1).members == [[0], [1]]


def test_a_step_is_that_of_the_gradient_by_the_native_pixels() -> None:
    pixels = PixelBatch(images([(50, 40)] * 2), SPEC)
    leaf = torch.stack(images([(50, 40)] * 2)).float().requires_grad_(True)
    seen, _ = pixels.step_input()
    slope = torch.randn(seen.shape, generator=torch.Generator().manual_seed(1))
    (own,) = torch.autograd.grad((to_model_input(leaf, SPEC) * slope).sum(), leaf)
    pixels.step([slope], 1, 8, None)
    levels = torch.stack(images([(50, 40)] * 2)).int()
    expected = ((levels - own.sign().int()).clamp(0, 255) - levels).to(torch.int8)
    assert torch.equal(torch.stack(pixels.split_deltas()), expected)


def test_steps_see_views_and_every_seed_another_one() -> None:
    views = Views(("crop", "flip"))
    plain = stepped(PixelBatch(images(SIZES), SPEC))
    one, same, other = (
        stepped(PixelBatch(images(SIZES), SPEC, views=views), seed) for seed in (1, 1, 50)
    )
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one, plain, strict=True))
    assert torch.equal(
        PixelBatch(images(SIZES), SPEC, views=views).seen(), PixelBatch(images(SIZES), SPEC).seen()
    )


@pytest.mark.parametrize("size", [(0, 8, 8), (1, 1, 1), (5, 8, 8), (2, 50, 70), (3, 5, 900)])
def test_pieces_cover_a_batch_once(
    size: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pixels_module, "_PIECE", 200)
    count, height, width = size
    seen = torch.zeros(count, 3, height, width, dtype=torch.int8)
    for part in pixels_module.pieces(seen):
        assert seen[part][:, 0].numel() <= max(200, width)
        seen[part] += 1
    assert seen.eq(1).all()
