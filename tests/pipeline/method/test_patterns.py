from __future__ import annotations

import json
from itertools import combinations

import pytest
import torch
from torch import Tensor

from unlearnable.pipeline.method import pixels as module
from unlearnable.pipeline.method.models import model_spec
from unlearnable.pipeline.method.patterns import PatternBook, lay
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
    return found.compose(torch.tensor(choice), names, ["colour"] * len(choice), bound)


def photo(*size: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 6, 6, generator=generator) * 200 + 28
    return torch.nn.functional.interpolate(coarse, size=size, mode="bicubic")[0].byte()


def laid(found: PatternBook, image: Tensor, word: int = 0) -> Tensor:
    pixels = PixelBatch([image], model_spec("tiny"))
    lay(pixels, found, torch.full((1, 3), word), [image_digest(image)], 8)
    return pixels.split_deltas()[0]


@pytest.mark.parametrize("positions", range(1, 17))
def test_every_position_has_an_axis_and_every_axis_a_position(positions: int) -> None:
    for key in (KEY, bytes(32)):
        axes, owners = zip(*book(positions=positions, key=key).owners, strict=True)
        assert set(axes) == {0, 1, 2}
        assert set(owners) == set(range(positions))
    found = compose(book("strong", positions), [[0] * positions], 64, 64)
    assert found.abs().max() == 8


def test_keys_draw_axes_and_waves() -> None:
    keys = [bytes([n]) * 32 for n in range(12)]
    assert len({str(book(key=key).owners) for key in keys}) > 1
    assert len({str(book(key=key).waves) for key in keys}) == 12
    assert book().waves == book().waves


@pytest.mark.parametrize("name", NAMES)
def test_words_of_a_position_own_waves_that_differ(name: StrengthName) -> None:
    shortest, longest = STRENGTHS[name].period
    for words in book(name).waves:
        for one, other in combinations(words, 2):
            turn = abs(one.turn - other.turn)
            assert min(turn, 0.5 - turn) >= 0.25 / 8 - 1e-9
        assert all(shortest <= wave.period <= longest for wave in words)


def test_two_axes_of_gentle_leave_luma_as_it_is() -> None:
    changes = [float((torch.tensor(axis) * LUMA).sum()) for axis in STRENGTHS["gentle"].axes]
    assert changes == pytest.approx([0, 0, 2.4], abs=0.03)
    most = torch.tensor(STRENGTHS["gentle"].axes).abs().sum(0)
    assert (most <= 8).all()


@pytest.mark.parametrize("name", NAMES)
def test_equal_pictures_carry_equal_patterns_and_a_mean_leaves_most(
    name: StrengthName,
) -> None:
    found = compose(book(name), [[3, 1, 2]] * 2, 64, 64, digests="aa")
    assert torch.equal(found[0], found[1])
    digests = "".join(map(chr, range(40, 424)))
    many = compose(book(name), [[3, 1, 2]] * 384, 32, 32, digests=digests).float()
    assert not torch.equal(many[0], many[1])
    # Phases lie half a turn apart at most: the mean is a wave of 2 / pi of the amplitude, or less
    # where signs differ, and what it leaves of a picture is three quarters of its power.
    left = many - many.mean(0)
    assert left.square().mean() > 0.5 * many.square().mean()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("epsilon", [1, 8, 64])
def test_a_pattern_keeps_to_its_bound(name: StrengthName, epsilon: int) -> None:
    generator = torch.Generator().manual_seed(0)
    bound = torch.randint(1, epsilon + 1, (2, 1, 40, 50), generator=generator).to(torch.int8)
    bound = bound.expand(2, 3, 40, 50)
    found = book(name).compose(
        torch.tensor([[0, 1, 2], [3, 4, 5]]), ["a", "b"], ["colour"] * 2, bound
    )
    assert (found.int().abs() <= bound).all()
    assert found.abs().max() >= 0.9 * epsilon


def test_each_axis_holds_its_words_grating() -> None:
    size, words = (128, 192), (0, 7, 2)
    found = compose(book("strong"), [list(words)], *size)[0]
    assert found.abs().unique().tolist() == [8]
    for axis, position in book("strong").owners:
        wave = found[axis].float()
        assert wave.mean().abs() < 0.15 * 8
        # The strongest frequency of the channel is that of the word.
        power = torch.fft.fft2(wave).abs() ** 2
        power[0, 0] = 0
        row, column = divmod(int(power.argmax()), power.shape[1])
        height, width = power.shape
        rows = (row if row <= height / 2 else row - height) / height
        columns = (column if column <= width / 2 else column - width) / width
        cell = min(size) / 64
        period = book("strong").waves[position][words[position]].period
        assert (rows**2 + columns**2) ** 0.5 * cell == pytest.approx(
            1 / period, abs=1.2 * cell / min(height, width)
        )


def test_large_pictures_are_laid_in_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = compose(book("gentle"), [[1, 2, 3]] * 2, 50, 70, digests="ab")
    monkeypatch.setattr(module, "_PIECE", 999)
    assert torch.equal(compose(book("gentle"), [[1, 2, 3]] * 2, 50, 70, digests="ab"), whole)


def test_a_grating_scales_with_the_image() -> None:
    small = compose(book("strong"), [[1, 2, 3]], 64, 64)[0]
    large = compose(book("strong"), [[1, 2, 3]], 256, 256)[0]
    assert (small == large[:, ::4, ::4]).float().mean() > 0.95


def test_grey_pictures_get_luma_alone() -> None:
    bound = uniform(1, 40, 40)
    found = book().compose(torch.tensor([[0, 1, 2]]), ["a"], ["grey"], bound)
    assert torch.equal(found, found[:, :1].expand_as(found))
    assert found.abs().unique().tolist() == [STRENGTHS["gentle"].grey]
    image = photo(64, 64)[:1].repeat(3, 1, 1)
    published = image + laid(book("gentle"), image)
    assert torch.equal(published, published[:1].expand_as(published))
    assert not torch.equal(published, image)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("positions", [1, 2, 3, 5])
def test_flat_pictures_get_tints_without_an_edge(name: StrengthName, positions: int) -> None:
    found, choice = book(name, positions), torch.arange(positions)[None]
    change = found.compose(choice, ["a"], ["flat"], uniform(1, 360, 40))[0]
    lines = change[:, :, 0]
    assert torch.equal(change, lines[..., None].expand_as(change))
    assert lines.abs().max() == STRENGTHS[name].tint
    # An edge would be a step of twice the tint.
    assert (lines[:, 1:] - lines[:, :-1]).abs().max() <= STRENGTHS[name].tint / 2
    for position in range(positions):
        whole = lines[:, round((position + 0.5) * 360 / positions)]
        assert torch.equal(whole.sign().int(), found.tints[position, position])


def test_each_word_has_a_tint_of_its_own() -> None:
    for own in book().tints:
        assert len({tuple(tint.tolist()) for tint in own}) == 8
    assert not torch.equal(book().tints, book(key=bytes(32)).tints)


def test_drawings_have_no_gratings() -> None:
    drawing = torch.full((3, 64, 64), 200, dtype=torch.uint8)
    drawing[:, 20:40, 20:40] = torch.tensor([30, 90, 160], dtype=torch.uint8).view(3, 1, 1)
    change = laid(book("strong"), drawing)
    assert change.abs().max() == STRENGTHS["strong"].tint
    assert torch.equal(change, change[..., :1].expand_as(change))


def test_gentle_pictures_keep_their_luma_better_than_strong_ones() -> None:
    image = photo(128, 128)
    changes = {name: (laid(book(name), image) * LUMA.view(3, 1, 1)).sum(0).abs() for name in NAMES}
    means = [float(changes[name].mean()) for name in NAMES]
    assert means == sorted(means)
    assert means[1] < 0.75 * means[2]


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
