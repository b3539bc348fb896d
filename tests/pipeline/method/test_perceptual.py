from __future__ import annotations

import hashlib

import pytest
import torch
from torch import Tensor

from unlearnable.pipeline.method.perceptual import bound_map, ground_of, is_grey


def noise(*size: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, *size), generator=generator).to(torch.uint8)


def plain(level: int) -> Tensor:
    return torch.full((1, 3, 40, 40), level, dtype=torch.uint8)


def test_smooth_mid_grey_gets_the_floor_and_contrast_gets_all() -> None:
    assert bound_map(plain(127), 8, 0.25).unique().tolist() == [2]
    board = (torch.arange(40)[:, None] + torch.arange(40)) % 2 * 100 + 77
    half = torch.cat([plain(127), board.expand(1, 3, 40, 40).byte()], dim=3)
    bound = bound_map(half, 16, 0.25)
    assert bound[..., :30].max() == 4
    assert bound[..., 50:].min() == 16


def test_dark_and_light_tones_hide_more_than_mid_grey() -> None:
    dark, middle, light = (int(bound_map(plain(level), 64, 0.25)[0, 0, 0, 0]) for level in
                           (0, 127, 255))  # fmt: skip
    assert dark > light > middle == 16


@pytest.mark.parametrize("epsilon", [1, 8, 64])
@pytest.mark.parametrize("floor", [0.01, 0.5, 1.0])
@pytest.mark.parametrize("size", [(1, 1), (3, 200), (33, 48)])
def test_no_bound_is_above_epsilon_or_nothing(
    epsilon: int, floor: float, size: tuple[int, int]
) -> None:
    images = torch.stack([noise(*size), torch.full((3, *size), 127, dtype=torch.uint8)])
    bound = bound_map(images, epsilon, floor)
    assert bound.dtype == torch.int8
    assert bound.shape == images.shape
    assert bound.min() >= 1
    assert bound.max() == (epsilon if floor == 1 else bound[0].max()) <= epsilon
    assert torch.equal(bound, bound[:, :1].expand_as(bound))


def test_a_map_does_not_depend_on_its_batch_its_threads_or_its_order_in_memory() -> None:
    images = torch.stack([noise(50, 40, seed=seed) // (seed + 1) for seed in range(3)])
    bound = bound_map(images, 64, 0.25)
    threads = torch.get_num_threads()
    torch.set_num_threads(3 - min(2, threads))
    try:
        for image, found in zip(images, bound, strict=True):
            assert torch.equal(bound_map(image[None], 64, 0.25)[0], found)
    finally:
        torch.set_num_threads(threads)
    last = images.contiguous(memory_format=torch.channels_last)
    assert torch.equal(bound_map(last, 64, 0.25), bound)
    assert bound_map(last, 64, 0.25).is_contiguous(memory_format=torch.channels_last)


def test_a_map_is_the_same_everywhere() -> None:
    images = torch.stack([noise(50, 40, seed=seed) // (4 * seed + 1) for seed in range(3)])
    data = bound_map(images, 64, 0.25).numpy().tobytes()
    assert hashlib.sha256(data).hexdigest() == (
        "58d53d7164f16904deb2728d9a56792ca52e00276ac273331b6fa337f6ed7dc8"
    )


def test_a_window_is_cut_at_the_borders() -> None:
    image = noise(20, 130)
    padded = torch.nn.functional.pad(image[None].float(), (9, 9, 9, 9), "reflect").byte()
    inner = bound_map(padded, 64, 0.25)[..., 9:-9, 9:-9]
    assert torch.equal(bound_map(image[None], 64, 0.25)[..., 2:-2, 2:-2], inner[..., 2:-2, 2:-2])


def test_grey_means_three_equal_channels() -> None:
    image = noise(6, 6)
    assert not is_grey(image)
    assert is_grey(image[:1].expand(3, 6, 6))
    image = image[:1].repeat(3, 1, 1)
    image[2, 5, 5] += 1
    assert not is_grey(image)


def test_a_drawing_is_flat_and_a_photograph_is_not() -> None:
    drawing = torch.full((3, 64, 64), 255, dtype=torch.uint8)
    drawing[0, 10:40, 10:40] = 30
    assert ground_of(drawing) == "flat"
    assert ground_of(drawing[:1].expand(3, 64, 64)) == "grey"
    noise = torch.randint(256, (3, 64, 64), generator=torch.Generator().manual_seed(0)).byte()
    assert ground_of(noise) == "colour"
    half = torch.where(torch.arange(64) < 28, drawing[:, :1, :1], noise)
    assert ground_of(half) == "colour"
    assert ground_of(torch.where(torch.arange(64) < 36, drawing[:, :1, :1], noise)) == "flat"
    assert ground_of(noise[:, :1, :1]) == "colour"
