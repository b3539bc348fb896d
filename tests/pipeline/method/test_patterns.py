from __future__ import annotations

import dataclasses
import json
from itertools import combinations

import pytest
import torch
from torch import Tensor

from unlearnable.pipeline.method.models import model_spec
from unlearnable.pipeline.method.patterns import CASTS, PatternBook, hue, lay
from unlearnable.pipeline.method.pixels import PixelBatch
from unlearnable.pipeline.method.strength import STRENGTHS, StrengthName
from unlearnable.pipeline.method.surrogate import image_digest

KEY = bytes(range(32))
LUMA = torch.tensor([0.299, 0.587, 0.114])
NAMES: tuple[StrengthName, ...] = ("gentle", "balanced", "strong")


def book(name: StrengthName = "gentle", positions: int = 3, key: bytes = KEY) -> PatternBook:
    return PatternBook(key, STRENGTHS[name], positions, 8)


def uniform(count: int, *size: int, epsilon: int = 8) -> Tensor:
    return torch.full((count, 3, *size), epsilon, dtype=torch.int8)


def compose(
    found: PatternBook, choice: list[list[int]], *size: int, digests: str = "a", epsilon: int = 8
) -> Tensor:
    """Patterns of chosen words for pictures with those digests, a letter each, int8."""
    names = list(digests.ljust(len(choice), digests[-1]))
    bound = uniform(len(choice), *size, epsilon=epsilon)
    return found.compose(torch.tensor(choice), names, [False] * len(choice), bound)


def photo(*size: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 6, 6, generator=generator) * 200 + 28
    return torch.nn.functional.interpolate(coarse, size=size, mode="bicubic")[0].byte()


def laid(found: PatternBook, image: Tensor, word: int = 0) -> Tensor:
    pixels = PixelBatch([image], model_spec("tiny"))
    lay(pixels, found, torch.full((1, 3), word), [image_digest(image)], 8)
    return pixels.split_deltas()[0]


@pytest.mark.parametrize("positions", range(1, 17))
@pytest.mark.parametrize("size", [(32, 32), (64, 64), (480, 640), (333, 17)])
def test_every_position_owns_one_rectangle_and_they_fill_the_image(
    positions: int, size: tuple[int, int]
) -> None:
    for key in (KEY, bytes(32)):
        owner = torch.full(size, -1)
        for position, region in enumerate(book(positions=positions, key=key).regions(*size)):
            assert (owner[region] == -1).all()
            owner[region] = position
        assert sorted(owner.unique().tolist()) == list(range(positions))


def test_regions_scale_with_the_image() -> None:
    for small, large in zip(book().regions(60, 60), book().regions(240, 240), strict=True):
        for one, four in zip(small, large, strict=True):
            assert abs(4 * one.start - four.start) <= 2
            assert abs(4 * one.stop - four.stop) <= 2


def test_keys_draw_layouts_and_patterns() -> None:
    keys = [bytes([n]) * 32 for n in range(12)]
    layouts = {str(book(key=key).regions(240, 240)) for key in keys}
    assert len(layouts) == 12
    upright = {max(r[0].stop - r[0].start for r in book(key=k).regions(240, 240)) for k in keys}
    assert 240 in upright
    assert min(upright) < 200
    patterns = {str(book(key=key).patterns) for key in keys}
    assert len(patterns) == 12
    assert book().patterns == book().patterns


@pytest.mark.parametrize("name", NAMES)
def test_words_of_a_position_own_patterns_that_differ(name: StrengthName) -> None:
    for words in book(name).patterns:
        for one, other in combinations(words, 2):
            turn = abs(one.cast.turn - other.cast.turn)
            assert min(turn, 0.5 - turn) >= 0.25 / 8 - 1e-9
    shortest, longest = STRENGTHS[name].cast_period
    assert all(shortest <= p.cast.period <= longest for words in book(name).patterns for p in words)


def test_a_hue_leaves_luma_as_it_is() -> None:
    for turn in range(24):
        colour = torch.tensor(hue(turn / 24))
        assert colour.abs().max() == 1
        assert (colour * LUMA).sum().abs() < 1e-3


def test_casts_are_the_corners_of_the_colour_cube() -> None:
    assert len(set(CASTS)) == 8
    assert {abs(part) for cast in CASTS for part in cast} == {1}
    found = compose(book("strong"), [[0, 1, 2]], 64, 64)
    assert found.abs().unique().tolist() == [8]
    owned = {pattern.colour for pattern in book("strong").patterns[0]}
    assert owned == set(CASTS)


@pytest.mark.parametrize("name", NAMES)
def test_equal_pictures_carry_equal_patterns_and_no_mean_holds_one(name: StrengthName) -> None:
    found = compose(book(name), [[3, 1, 2]] * 2, 64, 64, digests="aa")
    assert torch.equal(found[0], found[1])
    digests = "".join(map(chr, range(40, 424)))
    many = compose(book(name), [[3, 1, 2]] * 384, 32, 32, digests=digests).float()
    assert not torch.equal(many[0], many[1])
    # The mean of 384 fair signs is 8 / sqrt(384) in size.
    assert many.mean(0).abs().mean() < 0.5


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("epsilon", [1, 8, 64])
def test_a_pattern_keeps_to_its_bound(name: StrengthName, epsilon: int) -> None:
    generator = torch.Generator().manual_seed(0)
    bound = torch.randint(1, epsilon + 1, (2, 1, 40, 50), generator=generator).to(torch.int8)
    bound = bound.expand(2, 3, 40, 50)
    found = book(name).compose(torch.tensor([[0, 1, 2], [3, 4, 5]]), ["a", "b"], [False] * 2, bound)
    assert (found.int().abs() <= bound).all()
    assert found.abs().max() >= 0.9 * epsilon


def test_each_region_holds_its_words_grating() -> None:
    size = (128, 192)
    found = compose(book("strong"), [[0, 7, 2, 9]], *size)[0].sign().int()
    for position, (word, region) in enumerate(
        zip((0, 7, 2), book("strong").regions(*size), strict=True)
    ):
        pattern = book("strong").patterns[position][word]
        part = found[(slice(None), *region)]
        colour = torch.tensor(pattern.colour).int().view(3, 1, 1)
        sign = part * colour
        assert torch.equal(sign, sign[:1].expand_as(sign))
        wave = sign[0].float()
        assert wave.mean().abs() < 0.15
        # The strongest frequency of the region is the pattern's own.
        power = torch.fft.fft2(wave).abs() ** 2
        power[0, 0] = 0
        row, column = divmod(int(power.argmax()), power.shape[1])
        height, width = power.shape
        rows = (row if row <= height / 2 else row - height) / height
        columns = (column if column <= width / 2 else column - width) / width
        cell = min(size) / 64
        assert (rows**2 + columns**2) ** 0.5 * cell == pytest.approx(
            1 / pattern.cast.period, abs=1.2 * cell / min(height, width)
        )


def test_a_grating_scales_with_the_image() -> None:
    small = compose(book("strong"), [[1, 2, 3]], 64, 64)[0]
    large = compose(book("strong"), [[1, 2, 3]], 256, 256)[0]
    assert (small == large[:, ::4, ::4]).float().mean() > 0.95


def test_grey_pictures_get_luma_alone() -> None:
    bound = uniform(1, 40, 40)
    found = book().compose(torch.tensor([[0, 1, 2]]), ["a"], [True], bound)
    assert torch.equal(found, found[:, :1].expand_as(found))
    assert found.abs().unique().tolist() == [STRENGTHS["gentle"].grey]
    image = photo(64, 64)[:1].repeat(3, 1, 1)
    published = image + laid(book("gentle"), image)
    assert torch.equal(published, published[:1].expand_as(published))
    assert not torch.equal(published, image)


def test_gentle_pictures_keep_their_luma_better_than_strong_ones() -> None:
    image = photo(128, 128)
    changes = {name: (laid(book(name), image) * LUMA.view(3, 1, 1)).sum(0).abs() for name in NAMES}
    means = [float(changes[name].mean()) for name in NAMES]
    assert means == sorted(means)
    assert means[1] < 0.75 * means[2]


def test_plain_casts_of_hues_have_a_sign_of_the_picture() -> None:
    plain = dataclasses.replace(book(), inverted=0.0)
    found = compose(plain, [[0, 0, 0]] * 8, 32, 32, digests="abcdefgh").float()
    region = plain.regions(32, 32)[0]
    signs = found[(slice(None), slice(None), *region)].mean((2, 3)).sign()
    assert len(signs.unique(dim=0)) == 2


def test_a_pictures_own_direction_lies_within_its_words_part() -> None:
    own = dataclasses.replace(STRENGTHS["gentle"], vary=1.0)
    varied = dataclasses.replace(book(), strength=own)
    assert varied.patterns == book().patterns
    one, other = compose(varied, [[0, 0, 0]], 64, 64), compose(book(), [[0, 0, 0]], 64, 64)
    assert not torch.equal(one, other)


def test_words_drawn_by_chance_follow_the_picture() -> None:
    digests = [f"picture {number % 50}" for number in range(100)]
    choice = book().draw_words(digests, [8, 8, 4])
    assert torch.equal(choice[:50], choice[50:])
    assert [column.max() for column in choice.T] == [7, 7, 3]
    assert book().draw_words(digests, []).shape == (100, 0)


def test_a_book_survives_its_description() -> None:
    text = json.dumps(book().as_dict())
    assert KEY.hex() not in text
    assert PatternBook.from_dict(json.loads(text), KEY.hex()) == book()
