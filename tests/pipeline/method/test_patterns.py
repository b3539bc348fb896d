import pytest
import torch

from unlearnable.pipeline.method.patterns import (
    CASTS,
    CELLS,
    TILE,
    PatternBook,
    gratings,
    region_owner,
)


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


def test_plain_casts_are_the_corners_of_the_colour_cube() -> None:
    book = PatternBook.design(3, 8, inverted=0.0, seed=0)
    assert book.tiles.shape == (3, 8, 3, TILE, TILE)
    casts = book.tiles[..., 0, 0]
    assert torch.equal(book.tiles, casts[..., None, None].expand_as(book.tiles))
    assert all(len(row.unique(dim=0)) == 8 for row in casts)
    assert torch.equal(CASTS.abs(), torch.ones_like(CASTS))


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_gratings_invert_their_share_of_cells_and_differ(quarters: int) -> None:
    waves = gratings(quarters / 4)
    assert waves.shape == (8, TILE, TILE)
    assert torch.equal((waves < 0).sum((1, 2)), torch.full((8,), quarters * TILE))
    either = torch.cat([waves, -waves])
    assert len(either.unique(dim=0)) == 16


def test_a_grating_has_one_direction() -> None:
    across, down = gratings(0.5)[0], gratings(0.5)[2]
    assert torch.equal(across, across[:1].expand_as(across))
    assert torch.equal(down, across.T)
    rising, falling = gratings(0.5)[4], gratings(0.5)[6]
    assert torch.equal(rising, rising.roll((1, -1), (0, 1)))
    assert torch.equal(falling, falling.roll((1, 1), (0, 1)))


def test_every_cast_goes_with_a_grating_of_its_own_in_every_channel_alike() -> None:
    plain = PatternBook.design(3, 64, inverted=0.0, seed=0).tiles
    book = PatternBook.design(3, 64, inverted=0.5, seed=0).tiles
    textures = book * plain
    assert torch.equal(textures, textures[:, :, :1].expand_as(textures))
    for position in range(3):
        assert len(textures[position, :8, 0].unique(dim=0)) == 8
        assert len(book[position].unique(dim=0)) == 64
    assert not torch.equal(textures[0], textures[1])
    assert torch.equal(book, PatternBook.design(3, 64, inverted=0.5, seed=0).tiles)
    assert not torch.equal(book, PatternBook.design(3, 64, inverted=0.5, seed=1).tiles)


@pytest.mark.parametrize("size", [(64, 64), (20, 30), (128, 192)])
def test_compose_puts_each_words_pattern_in_its_region(size: tuple[int, int]) -> None:
    book = PatternBook.design(3, 8, inverted=0.5, seed=0)
    choice = torch.tensor([[0, 7, 2, 9], [5, 5, 5, 0]])
    code = book.compose(choice, *size)
    owner = region_owner(3, *size)
    cell = max(1, min(size) // CELLS)
    for sample in range(2):
        for y in range(0, size[0], 3):
            for x in range(0, size[1], 3):
                position = int(owner[y, x])
                tile = book.tiles[position, choice[sample, position]]
                assert torch.equal(
                    code[sample, :, y, x], tile[:, y // cell % TILE, x // cell % TILE]
                )


def test_the_grating_scales_with_the_image() -> None:
    book = PatternBook.design(4, 8, inverted=0.5, seed=0)
    choice = torch.tensor([[1, 2, 3, 4]])
    small, large = book.compose(choice, 64, 64), book.compose(choice, 256, 256)
    assert torch.equal(small, large[..., ::4, ::4])
