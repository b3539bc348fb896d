"""Random views that the optimisation averages over."""

from __future__ import annotations

import pytest
import torch

from unlearnable.pipeline.errors import UsageError
from unlearnable.pipeline.method.config import VIEW_KINDS, check_views
from unlearnable.pipeline.method.views import Views

PIXELS = torch.randint(0, 256, (6, 3, 40, 50), generator=torch.Generator().manual_seed(0)).float()


@pytest.mark.parametrize("kind", VIEW_KINDS)
def test_a_view_is_drawn_by_its_seed_alone_and_can_be_differentiated(kind: str) -> None:
    if kind == "jpeg":
        pytest.importorskip("kornia")
    views = Views((kind,))
    leaf = PIXELS.clone().requires_grad_(True)
    state = torch.random.get_rng_state()
    first = views(leaf, 1)
    assert torch.equal(first, views(PIXELS, 1))
    assert torch.equal(torch.random.get_rng_state(), state)
    others = [views(PIXELS, seed) for seed in range(2, 5)]
    assert any(other.shape != first.shape or not torch.equal(other, first) for other in others)
    (gradient,) = torch.autograd.grad(first.square().sum(), leaf)
    assert (gradient.flatten(1).abs().amax(1) > 0).all()
    assert first.shape[:2] == (6, 3)
    assert first.shape[2] <= 40


def test_images_of_a_batch_are_cropped_and_turned_each_on_its_own() -> None:
    same = PIXELS[:1].expand(6, -1, -1, -1)
    assert len(torch.unique(Views(("crop",))(same, 0).flatten(1), dim=0)) == 6
    turned = Views(("flip",))(same, 0)
    assert len(torch.unique(turned.flatten(1), dim=0)) == 2
    assert any(torch.equal(image, PIXELS[0].flip(-1)) for image in turned)


def test_no_views_leave_pictures_alone() -> None:
    assert not Views()
    assert torch.equal(Views()(PIXELS, 3), PIXELS)


@pytest.mark.parametrize("names", [("blur",), ("crop", "crop")])
def test_unknown_and_repeated_names_are_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="views"):
        check_views(names)
