"""Many small reads at once, handed to threads by the group."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


def map_in_groups(
    function: Callable[[A], B], items: Sequence[A], *, group: int, ahead: int
) -> Iterator[B]:
    """Yield ``function`` of each item, in their order.

    What waits in a pool takes ten times the memory of what it returns, and handing over one item
    takes longer than looking at a local file: threads get groups, and not all of them at once.

    Args:
        function: called in threads.
        items: its arguments.
        group: items that a thread gets at a time.
        ahead: items that are handed over before the first of them is awaited.
    """
    with ThreadPoolExecutor(16) as pool:
        for start in range(0, len(items), ahead):
            ends = range(start, min(start + ahead, len(items)), group)
            groups = [items[place : place + group] for place in ends]
            for found in pool.map(lambda part: [function(item) for item in part], groups):
                yield from found
