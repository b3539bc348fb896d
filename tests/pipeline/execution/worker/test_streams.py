"""Overlapping stages: order, bounds, and errors that travel."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from unlearnable.pipeline.execution.worker.streams import Prefetch, Sink, ordered_map


def test_results_come_in_input_order_from_a_bounded_window() -> None:
    begun = []

    def slow_when_even(number: int) -> int:
        begun.append(number)
        time.sleep(0.01 if number % 2 == 0 else 0)
        return -number

    with ThreadPoolExecutor(4) as pool:
        results = ordered_map(pool, slow_when_even, range(40), window=4)
        assert next(results) == 0
        assert len(begun) <= 5
        assert list(results) == [-n for n in range(1, 40)]


def test_prefetch_runs_ahead_only_as_far_as_the_weights_allow() -> None:
    drawn = []

    def source() -> Iterator[int]:
        for number in range(100):
            drawn.append(number)
            yield number

    with Prefetch(source(), 10, weigh=lambda _: 5) as items:
        assert next(items) == 0
        time.sleep(0.2)
        # Two wait in the channel, one is in the producer's hand.
        assert len(drawn) <= 4
        assert list(items) == list(range(1, 100))


def test_an_error_of_the_source_arrives_after_the_items_before_it() -> None:
    def source() -> Iterator[int]:
        yield 1
        raise ValueError("the source broke")

    with Prefetch(source(), 4) as items:
        assert next(items) == 1
        with pytest.raises(ValueError, match="the source broke"):
            next(items)


def test_leaving_a_prefetch_early_ends_its_thread() -> None:
    with Prefetch(iter(range(10**9)), 4) as items:
        next(items)
    assert not [t for t in threading.enumerate() if t.name == "prefetch"]


def test_an_error_of_the_consumer_reaches_the_producer() -> None:
    def consume(items: Iterator[int]) -> None:
        for item in items:
            if item == 3:
                raise OSError("no space")

    def produce() -> None:
        with Sink(consume, 2) as sink:
            for number in range(10**6):
                sink.put(number)

    with pytest.raises(OSError, match="no space"):
        produce()


def test_an_error_of_the_consumer_at_the_last_item_is_not_lost() -> None:
    def consume(items: Iterator[int]) -> None:
        list(items)
        raise OSError("the end failed")

    def produce() -> None:
        with Sink(consume, 2) as sink:
            sink.put(1)

    with pytest.raises(OSError, match="the end failed"):
        produce()


def test_an_error_of_the_producer_does_not_look_like_the_end_to_the_consumer() -> None:
    finished = []

    def consume(items: Iterator[int]) -> None:
        list(items)
        finished.append(True)

    def produce() -> None:
        with Sink(consume, 2) as sink:
            sink.put(1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        produce()
    assert not finished


def test_a_channel_knows_who_waited_and_how_much_stood_in_it() -> None:
    def slowly() -> Iterator[int]:
        for number in range(4):
            time.sleep(0.02)
            yield number

    prefetch = Prefetch(slowly(), 8)
    with prefetch as items:
        assert list(items) == [0, 1, 2, 3]
    assert prefetch.channel.reader_waited >= 0.05
    assert prefetch.channel.writer_waited == 0
    assert prefetch.channel.mean_load < 1

    def consume(items: Iterator[int]) -> None:
        for _ in items:
            time.sleep(0.02)

    with Sink(consume, 2) as sink:
        for number in range(6):
            sink.put(number)
    assert sink.channel.writer_waited >= 0.05
    assert sink.channel.mean_load >= 1
