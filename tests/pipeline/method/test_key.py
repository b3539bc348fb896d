from __future__ import annotations

import pytest

from unlearnable.pipeline.method.key import KEY_BYTES, Draws, new_key

KEY = bytes(range(KEY_BYTES))


def test_new_keys_differ_and_are_whole() -> None:
    keys = {new_key() for _ in range(8)}
    assert len(keys) == 8
    assert {len(key) for key in keys} == {KEY_BYTES}


def test_draws_are_the_same_everywhere() -> None:
    draws = Draws(KEY, "words", 2)
    assert [round(draws.share(), 12) for _ in range(3)] == [
        0.890687523148,
        0.48818549658,
        0.737621071092,
    ]


def test_another_key_or_name_gives_other_draws() -> None:
    names = [("words", 1), ("words", 11), ("words1", 1), ("picture", "1")]
    streams = [Draws(KEY, *name) for name in names] + [Draws(bytes(KEY_BYTES), "words", 1)]
    assert len({stream.share() for stream in streams}) == len(streams)
    assert Draws(KEY, "words", 1).share() == Draws(KEY, "words", 1).share()


def test_shares_fill_the_range() -> None:
    draws = Draws(KEY, "shares")
    found = [draws.share() for _ in range(4000)]
    assert min(found) >= 0
    assert max(found) < 1
    assert len(set(found)) == len(found)
    assert sum(found) / len(found) == pytest.approx(0.5, abs=0.02)
    assert {draws.below(3) for _ in range(100)} == {0, 1, 2}


def test_an_order_holds_each_number_once() -> None:
    draws = Draws(KEY, "order")
    orders = {tuple(draws.order(4)) for _ in range(400)}
    assert len(orders) == 24
    assert {tuple(sorted(order)) for order in orders} == {(0, 1, 2, 3)}


@pytest.mark.parametrize("count", [1, 2, 8, 64])
def test_spread_numbers_lie_apart(count: int) -> None:
    draws = Draws(KEY, "spread")
    for _ in range(20):
        found = sorted(draws.spread(count))
        gaps = [b - a for a, b in zip(found, [*found[1:], found[0] + 1], strict=True)]
        assert all(0 <= value < 1 for value in found)
        assert min(gaps) >= 0.5 / count - 1e-12
