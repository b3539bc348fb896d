from __future__ import annotations

import pytest
import torch
from torch import Tensor

from unlearnable.kernels import hotflip_topk as module
from unlearnable.kernels.hotflip_topk import hotflip_topk, hotflip_topk_reference

# batch, positions, width, words, count
SIZES = [(0, 2, 4, 5, 3), (1, 1, 3, 7, 16), (5, 2, 20, 140, 4), (18, 1, 40, 260, 6)]


def make(
    batch: int, positions: int, width: int, words: int, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Small whole numbers: their scores are exact in any order of summing, and many are equal."""
    generator = torch.Generator().manual_seed(seed)
    gradient = torch.randint(-3, 4, (batch, positions, width), generator=generator).float()
    embedding = torch.randint(-2, 3, (words, width), generator=generator).float()
    allowed = torch.stack([torch.randperm(words, generator=generator) for _ in range(positions)])
    allowed = allowed[:, : max(1, words // 2)]
    allowed[:, ::3] = -1
    return gradient, embedding, allowed


def by_definition(gradient: Tensor, embedding: Tensor, count: int, allowed: Tensor) -> Tensor:
    best = []
    for sample in gradient:
        for slope, words in zip(sample, allowed, strict=True):
            ids = [word for word in words.tolist() if word >= 0]
            order = sorted(ids, key=lambda w: (float(slope @ embedding[w]), w))[:count]
            best.append(order + [-1] * (count - len(order)))
    return torch.tensor(best, dtype=torch.int64).view(*gradient.shape[:2], count)


@pytest.mark.parametrize("size", SIZES)
def test_the_reference_follows_the_definition(size: tuple[int, ...]) -> None:
    gradient, embedding, allowed = make(*size[:4])
    every = torch.arange(len(embedding)).expand(size[1], -1)
    found = hotflip_topk(gradient, embedding, size[4])
    assert torch.equal(found, by_definition(gradient, embedding, size[4], every))
    found = hotflip_topk(gradient, embedding, size[4], allowed)
    assert torch.equal(found, by_definition(gradient, embedding, size[4], allowed))


def test_zeros_of_both_signs_are_equal_and_nan_comes_last() -> None:
    embedding = torch.tensor([[torch.nan], [0.0], [-0.0], [-1.0], [0.0], [torch.inf], [-torch.inf]])
    found = hotflip_topk(torch.ones(1, 1, 1), embedding, 8)
    assert found.tolist() == [[[6, 3, 1, 2, 4, 0, 5, -1]]]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_kernel_equals_plain_torch(
    size: tuple[int, ...], dtype: torch.dtype, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if dtype == torch.bfloat16 and device == "cpu":
        pytest.skip("Triton's interpreter multiplies the bits of bfloat16")
    monkeypatch.setattr(module, "on_gpu", lambda _: True)
    gradient, embedding, allowed = (t.to(device) for t in make(*size[:4], seed=1))
    count = size[4]
    embedding = embedding.to(dtype)
    for words in (None, allowed):
        found = hotflip_topk(gradient.to(dtype), embedding, count, words)
        expected = hotflip_topk_reference(gradient, embedding, count, words)
        assert torch.equal(found, expected)


def test_the_kernel_takes_strided_gradients_of_any_scale(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "on_gpu", lambda _: True)
    generator = torch.Generator().manual_seed(2)
    gradient = torch.randn(2, 4, 33, generator=generator).to(device)[:, 1:3] * 1e-6
    embedding = torch.randn(130, 33, generator=generator).to(device)
    found = hotflip_topk(gradient, embedding, 5)
    scores = gradient.double() @ embedding.double().T
    chosen = scores.gather(2, found)
    best = scores.sort(dim=2).values[..., :5]
    # Which words they are may depend on rounding; how good they are may not.
    torch.testing.assert_close(chosen, best, rtol=1e-5, atol=1e-5 * float(scores.abs().max()))


@pytest.mark.gpu
def test_the_kernel_needs_no_memory_for_scores() -> None:
    gradient = torch.randn(256, 5, 512, device="cuda")
    embedding = torch.randn(49_408, 512, device="cuda")
    hotflip_topk(gradient, embedding, 16)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    hotflip_topk(gradient, embedding, 16)
    scores = 256 * 5 * 49_408 * 4
    assert torch.cuda.max_memory_allocated() - before < scores / 10
