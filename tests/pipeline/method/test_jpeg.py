"""JPEG inside an optimisation, against the real codec."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from unlearnable.pipeline.method.jpeg import recompressed, stored

pytest.importorskip("kornia")


def picture(height: int, width: int) -> Tensor:
    """Blocks of colour, float32 [1, 3, H, W] in levels."""
    rng = np.random.default_rng(0)
    blocks = rng.integers(60, 200, (height // 4 + 1, width // 4 + 1, 3))
    pixels = np.kron(blocks, np.ones((4, 4, 1)))[:height, :width]
    return torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1)[None]


def real(pixels: Tensor, quality: int, subsampling: int) -> Tensor:
    buffer = io.BytesIO()
    levels = pixels[0].permute(1, 2, 0).to(torch.uint8).numpy()
    Image.fromarray(levels).save(buffer, "JPEG", quality=quality, subsampling=subsampling)
    with Image.open(buffer) as image:
        return torch.from_numpy(np.array(image).astype(np.float32)).permute(2, 0, 1)[None]


@pytest.mark.parametrize("size", [(48, 48), (37, 53)])
def test_the_stored_form_is_that_of_the_real_codec_and_keeps_colours(size: tuple[int, int]) -> None:
    pixels = picture(*size)
    expected = real(pixels, 95, subsampling=0)
    away = (stored(pixels, 95) - expected).abs().mean()
    assert away < 0.6 * (expected - pixels).abs().mean()
    halved = (recompressed(pixels, torch.tensor([95])) - expected).abs().mean()
    assert away < 0.2 * halved


def test_recompression_halves_the_colour_resolution_as_the_real_codec_does() -> None:
    pixels = picture(48, 48)
    found = recompressed(pixels, torch.tensor([75]))
    halved = (found - real(pixels, 75, subsampling=2)).abs().mean()
    whole = (found - real(pixels, 75, subsampling=0)).abs().mean()
    assert halved < 0.6 * whole


def test_strips_change_neither_the_picture_nor_its_gradient(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pixels = picture(64, 40)
    weight = torch.rand(pixels.shape, generator=torch.Generator().manual_seed(1))

    def run() -> tuple[Tensor, Tensor]:
        leaf = pixels.clone().requires_grad_(True)
        found = stored(leaf, 95)
        return found.detach(), torch.autograd.grad((found * weight).sum(), leaf)[0]

    whole = run()
    monkeypatch.setattr("unlearnable.pipeline.method.jpeg._STRIP_PIXELS", 1)
    strips = run()
    assert torch.allclose(whole[0], strips[0], atol=1e-3)
    assert torch.allclose(whole[1], strips[1], atol=1e-4)
    assert whole[1].abs().max() > 0.1
