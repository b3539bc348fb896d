"""Batches depend on order alone."""

from __future__ import annotations

import pytest

from unlearnable.pipeline.execution.worker.batches import form_batches


def sizes(weights: list[int], size: int) -> list[int]:
    batches = list(form_batches(weights, lambda p: p, size))
    assert [p for batch in batches for p in batch] == weights
    return [len(batch) for batch in batches]


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, []), (1, [1]), (4, [4]), (5, [5]), (7, [7]), (8, [4, 4]), (9, [4, 5]), (12, [4, 4, 4])],
)
def test_a_short_last_batch_joins_the_one_before(count: int, expected: list[int]) -> None:
    assert sizes([1] * count, 4) == expected


def test_quarantined_items_ride_along_without_weight() -> None:
    assert sizes([0, 1, 0, 1, 0, 1, 1, 0, 0], 2) == [4, 5]
    assert sizes([0, 0, 0], 2) == [3]


def test_a_full_last_batch_keeps_the_quarantined_items_behind_it() -> None:
    assert sizes([1, 1, 1, 1, 0, 0], 2) == [2, 4]


def test_large_images_fill_a_batch_sooner() -> None:
    assert sizes([3, 3, 1, 1, 4, 1], 4) == [2, 4]


def test_batches_are_yielded_while_the_input_goes_on() -> None:
    def endless() -> object:
        while True:
            yield 1

    batches = form_batches(endless(), lambda p: p, 2)  # type: ignore[arg-type]
    assert [next(batches), next(batches)] == [[1, 1], [1, 1]]
