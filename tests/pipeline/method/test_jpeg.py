"""JPEG inside an optimisation, against the real codec."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from unlearnable.pipeline.method.jpeg import recompressed

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


def test_recompression_halves_the_colour_resolution_as_the_real_codec_does() -> None:
    pixels = picture(48, 48)
    found = recompressed(pixels, torch.tensor([75]))
    halved = (found - real(pixels, 75, subsampling=2)).abs().mean()
    whole = (found - real(pixels, 75, subsampling=0)).abs().mean()
    assert halved < 0.6 * whole


def test_parts_change_neither_the_pictures_nor_their_gradients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pixels = torch.cat([picture(64, 40), picture(64, 40).flip(3), picture(64, 40).flip(2)])
    quality = torch.tensor([75, 50, 90])
    weight = torch.rand(pixels.shape, generator=torch.Generator().manual_seed(1))

    def run() -> tuple[Tensor, Tensor]:
        leaf = pixels.clone().requires_grad_(True)
        found = recompressed(leaf, quality)
        return found.detach(), torch.autograd.grad((found * weight).sum(), leaf)[0]

    whole = run()
    monkeypatch.setattr("unlearnable.pipeline.method.jpeg._PART_PIXELS", 64 * 40)
    one_by_one = run()
    assert torch.allclose(whole[0], one_by_one[0], atol=1e-3)
    assert torch.allclose(whole[1], one_by_one[1], atol=1e-3)
    assert whole[1].abs().max() > 0.1
    monkeypatch.setattr("unlearnable.pipeline.method.jpeg._PART_PIXELS", 1)
    strips = run()
    assert (whole[0] - strips[0]).abs().mean() < 0.3 * (whole[0] - pixels).abs().mean()
