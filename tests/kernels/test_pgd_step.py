import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unlearnable.kernels.pgd_step import normalise_pixels, pgd_step


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
