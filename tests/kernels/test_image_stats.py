from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from unlearnable.kernels import image_stats
from unlearnable.kernels.image_stats import ImageStats, measure, measure_batch


def make_pair(height: int, width: int, epsilon: int = 8, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (3, height, width)
    image = torch.randint(0, 256, shape, generator=generator)
    change = torch.randint(-epsilon, epsilon + 1, shape, generator=generator)
    return image.to(torch.uint8), (image + change).clamp(0, 255).to(torch.uint8)


def slow_ssim(a: np.ndarray, b: np.ndarray) -> float:
    """The definition, window by window."""

    def weights(side: int) -> np.ndarray:
        taps = min(11, side)
        values = np.exp(-(((np.arange(taps) - (taps - 1) / 2) / 1.5) ** 2) / 2)
        return values / values.sum()

    rows, columns = weights(a.shape[1]), weights(a.shape[2])
    window = np.outer(rows, columns)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values = []
    for x, y in zip(a.astype(float), b.astype(float), strict=True):
        for top in range(x.shape[0] - len(rows) + 1):
            for left in range(x.shape[1] - len(columns) + 1):
                p = x[top : top + len(rows), left : left + len(columns)]
                q = y[top : top + len(rows), left : left + len(columns)]
                mean_p, mean_q = (window * p).sum(), (window * q).sum()
                var_p, var_q = (
                    (window * (p - mean_p) ** 2).sum(),
                    (window * (q - mean_q) ** 2).sum(),
                )
                cov = (window * (p - mean_p) * (q - mean_q)).sum()
                values.append(
                    (2 * mean_p * mean_q + c1)
                    * (2 * cov + c2)
                    / ((mean_p**2 + mean_q**2 + c1) * (var_p + var_q + c2))
                )
    return float(np.mean(values))


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (5, 7), (10, 12), (11, 11), (16, 23)])
@pytest.mark.parametrize("epsilon", [1, 8, 100])
def test_against_the_definitions(shape: tuple[int, int], epsilon: int) -> None:
    a, b = make_pair(*shape, epsilon)
    stats = measure(a, b)
    change = b.numpy().astype(int) - a.numpy()
    assert stats.linf == np.abs(change).max()
    assert stats.l2 == pytest.approx(np.sqrt((change**2).sum()))
    if change.any():
        assert stats.psnr == pytest.approx(10 * np.log10(255**2 / (change**2).mean()))
    assert stats.ssim == pytest.approx(slow_ssim(a.numpy(), b.numpy()), abs=1e-8)


def test_equal_images() -> None:
    a, _ = make_pair(20, 20)
    assert measure(a, a) == ImageStats(0, 0.0, math.inf, 1.0)


def test_one_pixel_counts() -> None:
    a = torch.zeros(3, 40, 40, dtype=torch.uint8)
    b = a.clone()
    b[1, 39, 0] = 255
    assert measure(a, b)[:2] == (255, 255.0)


@pytest.mark.parametrize("shape", [(3, 50), (40, 30), (64, 64)])
def test_strips_change_nothing(shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = make_pair(*shape)
    whole = measure(a, b)
    for pixels in (1, 100, 333, 1000):
        monkeypatch.setattr(image_stats, "_STRIP_PIXELS", pixels)
        assert measure(a, b) == whole


def test_batches() -> None:
    pairs = [make_pair(12, 15, seed=seed) for seed in range(3)]
    a, b = (torch.stack(images) for images in zip(*pairs, strict=True))
    assert measure_batch(a, b) == [measure(*pair) for pair in pairs]


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (torch.zeros(3, 4, 4, dtype=torch.uint8), torch.zeros(3, 4, 5, dtype=torch.uint8)),
        (torch.zeros(1, 4, 4, dtype=torch.uint8),) * 2,
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8),) * 2,
        (torch.zeros(3, 0, 4, dtype=torch.uint8),) * 2,
        (torch.zeros(3, 4, 4),) * 2,
    ],
)
def test_wrong_input(a: Tensor, b: Tensor) -> None:
    with pytest.raises(ValueError, match=r"need (two|uint8) images"):
        measure(a, b)


def test_batches_of_another_form() -> None:
    images = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    with pytest.raises(ValueError, match="need two batches"):
        measure_batch(images, images[:1])
    assert measure_batch(images[:0], images[:0]) == []


@pytest.mark.parametrize(
    ("count", "height", "width", "epsilon", "tolerance"),
    [
        (0, 4, 4, 8, 0),
        (1, 1, 1, 8, 1e-6),
        (2, 5, 30, 8, 1e-6),
        (1, 11, 12, 255, 1e-4),
        (1, 54, 64, 16, 1e-6),
        (1, 56, 40, 3, 1e-6),
    ],
)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_the_kernel_against_plain_torch(
    count: int,
    height: int,
    width: int,
    epsilon: int,
    tolerance: float,
    memory_format: torch.memory_format,
    device: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pairs = [make_pair(height, width, epsilon, seed) for seed in range(count)]
    a, b = (torch.empty(0, 3, height, width, dtype=torch.uint8) for _ in range(2))
    if pairs:
        a, b = (torch.stack(images) for images in zip(*pairs, strict=True))
    if width == 40:  # flat: where variances are small differences of large numbers
        a[:], b[:], b[..., ::2] = 200, 200, 203
    expected = measure_batch(a, b)
    monkeypatch.setattr(image_stats, "on_gpu", lambda _: True)
    a, b = (t.to(device).contiguous(memory_format=memory_format) for t in (a, b))
    found = measure_batch(a, b)
    assert [f[:3] for f in found] == [e[:3] for e in expected]
    assert [f.ssim for f in found] == pytest.approx([e.ssim for e in expected], abs=tolerance)
    for image in a[:1]:
        assert measure(image, image) == ImageStats(0, 0.0, math.inf, 1.0)


@pytest.mark.gpu
def test_one_synchronisation_a_batch() -> None:
    a, b = (torch.stack([t, t]).cuda() for t in make_pair(224, 224))
    measure_batch(a, b)  # compiles, and moves the window's weights
    with torch.profiler.profile() as profile:
        measure_batch(a, b)
    copies = [e for e in profile.events() if e.name.startswith("Memcpy DtoH")]
    assert len(copies) == 1
