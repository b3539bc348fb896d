import pytest
import torch

from unlearnable.pipeline.method.patterns import CASTS, PatternBook, region_owner


@pytest.mark.parametrize("positions", range(1, 17))
@pytest.mark.parametrize("size", [(32, 32), (64, 64), (480, 640), (333, 17)])
def test_every_position_owns_one_rectangle_and_they_fill_the_image(
    positions: int, size: tuple[int, int]
) -> None:
    owner = region_owner(positions, *size)
    assert sorted(owner.unique().tolist()) == list(range(positions))
    for position in range(positions):
        rows, columns = torch.nonzero(owner == position, as_tuple=True)
        area = (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1)
        assert area == len(rows)


def test_regions_scale_with_the_image() -> None:
    small, large = region_owner(5, 60, 60), region_owner(5, 240, 240)
    assert torch.equal(small, large[::4, ::4])


def test_words_of_a_position_have_casts_of_their_own() -> None:
    book = PatternBook.design(3, 8)
    assert book.casts.shape == (3, 8, 3)
    assert all(len(row.unique(dim=0)) == 8 for row in book.casts)
    assert torch.equal(CASTS.abs(), torch.ones_like(CASTS))


def test_compose_puts_each_words_cast_in_its_region() -> None:
    book = PatternBook.design(3, 8)
    choice = torch.tensor([[0, 7, 2], [5, 5, 5]])
    code = book.compose(choice, 20, 30)
    owner = region_owner(3, 20, 30)
    for sample in range(2):
        for position in range(3):
            inside = code[sample][:, owner == position]
            expected = book.casts[position, choice[sample, position]]
            assert torch.equal(inside, expected[:, None].expand_as(inside))
