"""Forming batches by order alone, so that they do not depend on who forms them."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def form_batches(items: Iterable[T], weight: Callable[[T], int], size: int) -> Iterator[list[T]]:
    """Cut ``items`` into lists that each weigh at least ``size``.

    A short last batch is merged into the one before it, therefore one batch is always held back:
    contrastive losses need company, and a batch of one has none.

    Args:
        items: in shard order.
        weight: of an item: 0 for those that only ride along (quarantined samples), more than 1
            for images so large that a batch of them would not fit in memory.
        size: weight of a batch, at least 1.
    """
    held: list[T] = []
    current: list[T] = []
    load = 0
    for item in items:
        if load >= size:
            if held:
                yield held
            held, current, load = current, [], 0
        current.append(item)
        load += weight(item)
    if held and load < size:
        yield held + current
        return
    if held:
        yield held
    if current:
        yield current
