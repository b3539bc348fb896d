"""bfloat16 on trial: taken where features stay, left where they do not."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn

from unlearnable.pipeline.errors import UsageError
from unlearnable.pipeline.method.config import Precision
from unlearnable.pipeline.method.models import build_model, model_spec
from unlearnable.pipeline.method.precision import set_precision

if TYPE_CHECKING:
    from open_clip import CLIP

SPEC = model_spec("tiny", image_size=32)


def frozen() -> CLIP:
    return build_model("tiny", image_size=32).requires_grad_(False).eval()


class Cancels(nn.Module):
    """Adds a large number and takes it away: float32 keeps what bfloat16 loses."""

    def __init__(self, inner: nn.Module, width: int) -> None:
        super().__init__()
        self.inner, self.linear = inner, nn.Linear(width, width)
        nn.init.eye_(self.linear.weight)
        nn.init.constant_(self.linear.bias, 1e3)

    def forward(self, rows: Tensor) -> Tensor:
        moved: Tensor = self.linear(self.inner(rows)) - 1e3
        return moved


def test_a_sound_model_runs_in_bfloat16_with_features_and_gradients_of_float32() -> None:
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    plain, fast = frozen(), frozen()
    assert set_precision(fast, SPEC, "cpu", "bf16", compiled=False) is torch.bfloat16
    leaf = images.clone().requires_grad_(True)
    found = fast.encode_image(leaf, normalize=True)
    wanted = plain.encode_image(images, normalize=True)
    assert found.dtype is torch.float32
    assert not torch.equal(found, wanted)
    assert torch.allclose(found, wanted, atol=0.02)
    (gradient,) = torch.autograd.grad(found.sum(), leaf)
    assert gradient.dtype is torch.float32
    assert gradient.abs().max() > 0


@pytest.mark.parametrize("precision", ["auto", "fp32"])
def test_a_cpu_keeps_float32_unless_it_is_told_otherwise(precision: Precision) -> None:
    model = frozen()
    images = torch.randn(2, 3, 32, 32)
    before = model.encode_image(images)
    assert set_precision(model, SPEC, "cpu", precision, compiled=False) is torch.float32
    assert torch.equal(model.encode_image(images), before)


def test_a_model_that_bfloat16_ruins_stays_in_float32(caplog: pytest.LogCaptureFixture) -> None:
    model = frozen()
    model.visual = Cancels(model.visual, model.visual(torch.zeros(1, 3, 32, 32)).shape[1])
    images = torch.randn(2, 3, 32, 32)
    before = model.encode_image(images)
    with caplog.at_level(logging.WARNING):
        assert set_precision(model, SPEC, "cpu", "bf16", compiled=False) is torch.float32
    assert "runs in float32" in caplog.text
    assert torch.equal(model.encode_image(images), before)


def test_compiling_needs_a_gpu() -> None:
    with pytest.raises(UsageError, match="compile needs a CUDA device"):
        set_precision(frozen(), SPEC, "cpu", "auto", compiled=True)
