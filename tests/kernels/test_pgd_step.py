from __future__ import annotations

from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from unlearnable.kernels import pgd_step as module
from unlearnable.kernels.pgd_step import normalise_pixels, pgd_step, pgd_step_input

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
SHAPES = [(0, 3, 4, 4), (1, 3, 1, 1), (2, 3, 5, 7), (1, 3, 33, 64)]
FORMATS = [torch.contiguous_format, torch.channels_last]


@given(
    epsilon=st.integers(1, 127),
    step=st.integers(1, 20),
    seed=st.integers(0, 2**31),
    shape=st.sampled_from([(0, 3, 4, 4), (1, 3, 1, 1), (2, 3, 5, 7)]),
)
def test_every_iterate_is_an_8_bit_image_within_the_bound(
    epsilon: int, step: int, seed: int, shape: tuple[int, ...]
) -> None:
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(0, 256, shape, generator=generator).to(torch.uint8)
    delta = torch.zeros(shape, dtype=torch.int8)
    for _ in range(4):
        gradient = torch.randn(shape, generator=generator)
        before, delta = delta, pgd_step(image, delta, gradient, step, epsilon)
        levels = image.int() + delta.int()
        assert ((levels >= 0) & (levels <= 255)).all()
        assert (delta.int().abs() <= epsilon).all()
        wanted = before.int() - step * gradient.sign().int()
        free = (
            (wanted.abs() <= epsilon) & (image.int() + wanted >= 0) & (image.int() + wanted <= 255)
        )
        assert torch.equal(delta.int()[free], wanted[free])


def test_each_pixel_keeps_to_its_own_bound() -> None:
    generator = torch.Generator().manual_seed(0)
    bound = torch.randint(1, 9, (2, 3, 5, 7), generator=generator).to(torch.int8)
    image = torch.full(bound.shape, 100, dtype=torch.uint8)
    delta = torch.zeros_like(bound)
    for _ in range(9):
        delta = pgd_step(image, delta, -torch.ones(bound.shape), 1, bound)
    assert torch.equal(delta, bound)
    same = torch.full_like(bound, 4)
    gradient = torch.randn(bound.shape, generator=generator)
    expected = pgd_step(image, delta, gradient, 1, 4)
    assert torch.equal(pgd_step(image, delta, gradient, 1, same), expected)


def test_a_zero_gradient_moves_nothing() -> None:
    delta = torch.full((1, 3, 2, 2), 3, dtype=torch.int8)
    image = torch.full((1, 3, 2, 2), 100, dtype=torch.uint8)
    assert torch.equal(pgd_step(image, delta, torch.zeros(1, 3, 2, 2), 1, 8), delta)


def test_normalised_pixels_are_those_of_torchvision() -> None:
    transforms = pytest.importorskip("torchvision.transforms.v2.functional")
    mean, std = (0.48, 0.45, 0.40), (0.26, 0.26, 0.27)
    image = torch.randint(0, 256, (2, 3, 5, 4), dtype=torch.uint8)
    expected = transforms.normalize(image.float() / 255, list(mean), list(std))
    torch.testing.assert_close(normalise_pixels(image, mean, std), expected)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.float32])
def test_the_order_in_memory_changes_no_bit(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, shape, generator=generator).to(dtype)
    last = image.contiguous(memory_format=torch.channels_last)
    seen = normalise_pixels(last, MEAN, STD)
    assert torch.equal(seen, normalise_pixels(image, MEAN, STD))
    assert seen.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(image, last), "the pixels were written to"
    if dtype is torch.float32:
        found = []
        for pixels in (image, last):
            leaf = pixels.requires_grad_(True)
            found += torch.autograd.grad(normalise_pixels(leaf, MEAN, STD).square().sum(), leaf)
        assert torch.equal(*found)


@pytest.fixture
def triton(device: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every call goes to the kernel, whatever the device."""
    monkeypatch.setattr(module, "on_gpu", lambda _: True)
    return device


def make(shape: tuple[int, ...], dtype: torch.dtype, seed: int) -> tuple[Tensor, ...]:
    """Image, delta, gradient and code, with zeros of both signs and NaN among the gradients."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(0, 256, shape, generator=generator)
    delta = (image + torch.randint(-8, 9, shape, generator=generator)).clamp(0, 255) - image
    gradient = torch.randn(shape, generator=generator)
    gradient[gradient.abs() < 0.1] = 0
    gradient[gradient > 2] = -0.0
    gradient[gradient < -2] = torch.nan
    code = torch.randint(-1, 2, shape, generator=generator)
    return image.byte(), delta.to(torch.int8), gradient.to(dtype), code.to(torch.int8)


def rounded(pixels: Tensor, dtype: torch.dtype, device: str) -> Tensor:
    """The model input as torch has it; Triton's interpreter cuts bfloat16 instead of rounding."""
    exact = normalise_pixels(pixels, MEAN, STD)
    if dtype == torch.bfloat16 and device == "cpu":
        exact = (exact.view(torch.int32) & -0x10000).view(torch.float32)
    return exact.to(dtype)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_kernel_equals_plain_torch_bit_for_bit(
    shape: tuple[int, ...], memory_format: torch.memory_format, dtype: torch.dtype, triton: str
) -> None:
    image, delta, gradient, code = make(shape, dtype, seed=sum(shape))
    bound = (image // 30 + 1).to(torch.int8)
    for sign, most in product((None, code), (8, bound)):
        expected = module.pgd_step_reference(image, delta, gradient, 2, most, sign)
        there = [None if t is None else t.to(triton) for t in (image, delta, gradient, sign)]
        limit = most.to(triton) if isinstance(most, Tensor) else most
        moved, seen = pgd_step_input(
            *there[:3], 2, limit, MEAN, STD, code=there[3], dtype=dtype, memory_format=memory_format
        )
        assert torch.equal(moved.cpu(), expected)
        wanted = rounded(image.int() + expected.int(), dtype, triton)
        assert torch.equal(seen.cpu(), wanted)
        assert seen.is_contiguous(memory_format=memory_format)
        assert moved.is_contiguous(memory_format=memory_format)
        assert torch.equal(pgd_step(*there[:3], 2, limit, there[3]).cpu(), expected)


@pytest.mark.parametrize(
    "std", [STD, (0.5, 0.5, 0.5), (0.229, 0.224, 0.225), (1.0, 0.1, 0.9999999)]
)
def test_every_level_of_every_channel_is_normalised_exactly(
    std: tuple[float, float, float], triton: str
) -> None:
    image = torch.arange(256, dtype=torch.uint8).expand(1, 3, 1, 256).contiguous()
    delta = torch.zeros(1, 3, 1, 256, dtype=torch.int8)
    there = [t.to(triton) for t in (image, delta, torch.zeros(1, 3, 1, 256))]
    _, seen = pgd_step_input(*there, 1, 8, MEAN, std)
    assert torch.equal(seen.cpu(), normalise_pixels(image, MEAN, std))


def test_layouts_may_be_mixed(triton: str) -> None:
    image, delta, gradient, _ = (t.to(triton) for t in make((2, 3, 6, 10), torch.float32, 3))
    expected = module.pgd_step_reference(image, delta, gradient, 1, 8)
    last = gradient.contiguous(memory_format=torch.channels_last)
    strided = delta.repeat(1, 1, 1, 2)[..., ::2].copy_(delta)
    for a, d, g in ((image, delta, last), (image.flip(0).flip(0), strided, gradient)):
        assert torch.equal(pgd_step(a, d, g, 1, 8), expected)
        assert torch.equal(pgd_step_input(a, d, g, 1, 8, MEAN, STD)[0], expected)


def test_plain_torch_gives_both_results_too() -> None:
    image, delta, gradient, code = make((2, 3, 6, 10), torch.float32, 4)
    moved, seen = pgd_step_input(
        image, delta, gradient, 1, 8, MEAN, STD, code=code, dtype=torch.bfloat16
    )
    expected = pgd_step(image, delta, gradient, 1, 8, code)
    assert torch.equal(moved, expected)
    levels = image.int() + expected.int()
    assert torch.equal(seen, normalise_pixels(levels, MEAN, STD).to(torch.bfloat16))
    assert seen.is_contiguous(memory_format=torch.channels_last)
    assert not ((moved < 0) & (code > 0) | (moved > 0) & (code < 0)).any()


@pytest.mark.gpu
def test_more_than_31_bits_of_elements() -> None:
    shape = (1 << 12, 3, 512, 512)
    image = torch.full(shape, 100, dtype=torch.uint8, device="cuda")
    delta = torch.zeros(shape, dtype=torch.int8, device="cuda")
    gradient = torch.ones((), dtype=torch.bfloat16, device="cuda").expand(shape).contiguous()
    for memory_format in FORMATS:
        moved, seen = pgd_step_input(
            image, delta, gradient, 1, 8, MEAN, STD,
            dtype=torch.bfloat16, memory_format=memory_format,
        )  # fmt: skip
        assert (moved == -1).all()
        assert (seen[-1] == rounded(image[-1:] - 1, torch.bfloat16, "cuda")[0]).all()
