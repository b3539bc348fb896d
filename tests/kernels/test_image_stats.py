from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from unlearnable.kernels import image_stats
from unlearnable.kernels.image_stats import ImageStats, largest_change, measure


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
    assert stats.ssim == pytest.approx(
        slow_ssim(a.numpy(), b.numpy()), abs=1e-6 if epsilon <= 16 else 1e-4
    )


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


@pytest.mark.parametrize(("epsilon", "tolerance"), [(3, 1e-6), (16, 1e-6), (255, 1e-4)])
def test_flat_pictures_are_measured_as_well(epsilon: int, tolerance: float) -> None:
    """Flat: where variances are small differences of large numbers."""
    a = torch.full((3, 30, 40), 200, dtype=torch.uint8)
    b = a.clone()
    b[..., ::2] = max(0, 200 - epsilon)
    assert measure(a, b).ssim == pytest.approx(slow_ssim(a.numpy(), b.numpy()), abs=tolerance)


@pytest.mark.parametrize("epsilon", [0, 1, 255])
def test_the_largest_change_alone(epsilon: int) -> None:
    a, b = make_pair(16, 23, epsilon)
    assert largest_change(a, b) == measure(a, b).linf == int((b.short() - a).abs().max())


def test_sums_of_large_pictures_are_exact() -> None:
    a = torch.zeros(3, 2000, 1500, dtype=torch.uint8)
    b = torch.full_like(a, 255)
    b[2, 1999, 1499] = 254
    squares = (a.numel() - 1) * 255**2 + 254**2
    assert measure(a, b).l2 == math.sqrt(squares)
