"""A frozen tower without batch norms is the tower with them."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from unlearnable.pipeline.method.folding import fold, fold_batch_norms
from unlearnable.pipeline.method.microbatch import MicroBatch, by_input
from unlearnable.pipeline.method.models import build_model, model_spec
from unlearnable.pipeline.method.precision import set_precision

SPEC = model_spec("tiny", image_size=32)


def frozen(name: str = "tiny", size: int = 32) -> Any:
    """A model whose batch norms have seen data."""
    model = build_model(name, image_size=size)
    generator = torch.Generator().manual_seed(3)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            shape = module.running_mean.shape
            module.running_mean.copy_(torch.randn(shape, generator=generator) / 4)
            module.running_var.copy_(torch.rand(shape, generator=generator) + 0.5)
            module.weight.data.copy_(torch.rand(shape, generator=generator) + 0.5)
            module.bias.data.copy_(torch.randn(shape, generator=generator) / 4)
    return model.requires_grad_(False).eval()


def pictures(size: int = 32) -> Tensor:
    return torch.randn(4, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_folded_and_unfolded_towers_agree(dtype: torch.dtype, tolerance: float) -> None:
    plain, folded = frozen().to(dtype), frozen().to(dtype)
    images = pictures().to(dtype)
    assert fold_batch_norms(folded.visual) > 10
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.visual.modules())
    found = folded.encode_image(images, normalize=True)
    wanted = plain.encode_image(images, normalize=True)
    assert torch.allclose(found, wanted, rtol=0, atol=tolerance)
    assert not any(value.requires_grad for value in folded.parameters())


def test_a_tower_without_batch_norms_stays_as_it_is() -> None:
    tower = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    assert fold_batch_norms(tower) == 0


class Apart(nn.Module):
    """Lists a batch norm behind a convolution that it does not follow."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        nn.init.constant_(self.norm.bias, 3.0)

    def forward(self, rows: Tensor) -> Tensor:
        moved: Tensor = self.conv(self.norm(rows) * rows)
        return moved.flatten(1)


def test_a_tower_that_folding_would_change_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    model = frozen()
    model.visual = Apart().requires_grad_(False).eval()
    before = model.encode_image(pictures())
    with caplog.at_level(logging.WARNING):
        fold(model, pictures())
    assert "cannot be folded" in caplog.text
    assert torch.equal(model.encode_image(pictures()), before)


class Operations(TorchDispatchMode):
    """Counts conversions between types, and batch norms."""

    def __init__(self) -> None:
        super().__init__()
        self.casts = self.norms = 0

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        self.casts += name == "_to_copy" and (kwargs or {}).get("dtype") is not None
        self.norms += "batch_norm" in name
        return func(*args, **(kwargs or {}))


def test_a_step_in_bfloat16_casts_its_input_and_its_features_alone() -> None:
    model = frozen()
    fold(model, pictures())
    assert set_precision(model, SPEC, "cpu", "bf16", compiled=False) is torch.bfloat16
    rows = pictures().to(torch.bfloat16)
    with Operations() as counted:
        MicroBatch().gradient(by_input(model.encode_image), rows, lambda found: found.sum())
        model.encode_text(torch.zeros(4, SPEC.context_length, dtype=torch.int64))
    # Features to float32 and their gradient back; embedded tokens in, features out.
    assert counted.casts <= 4
    assert counted.norms == 0
