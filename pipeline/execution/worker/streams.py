"""Small tools that overlap the stages of a worker: bounded, in order, and errors travel along."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Cancelled(Exception):  # noqa: N818 - not an error: the other end has gone
    """The reader of a channel takes no more."""


def _one(_: object) -> int:
    return 1


class Channel(Generic[T]):
    """A queue between two threads that either end can close.

    Args:
        depth: weight at which the writer has to wait.
        weigh: weight of an item; each counts at least 1.

    Attributes:
        reader_waited: seconds that the reader waited for items.
        writer_waited: seconds that the writer waited for room.
    """

    def __init__(self, depth: int, weigh: Callable[[T], int] = _one) -> None:
        self._items: deque[T] = deque()
        self._depth = depth
        self._weigh = weigh
        self._load = 0
        self._changed = threading.Condition()
        self._finished = False
        self._cancelled = False
        self._error: BaseException | None = None
        self.reader_waited = self.writer_waited = 0.0
        self._taken = self._found = 0

    @property
    def mean_load(self) -> float:
        """Weight that waited when an item was asked for, on average; 0 before the first."""
        return self._found / max(self._taken, 1)

    def put(self, item: T) -> None:
        """Add ``item``, waiting for room.

        Raises:
            Cancelled: the reader takes no more.
        """
        with self._changed:
            self.writer_waited += self._wait(lambda: self._load < self._depth or self._cancelled)
            if self._cancelled:
                raise Cancelled
            self._items.append(item)
            self._load += max(self._weigh(item), 1)
            self._changed.notify_all()

    def finish(self, error: BaseException | None = None) -> None:
        """End the stream; the reader gets ``error`` after the items before it."""
        with self._changed:
            self._finished, self._error = True, error
            self._changed.notify_all()

    def cancel(self) -> None:
        """Tell the writer to stop and drop what waits."""
        with self._changed:
            self._cancelled, self._load = True, 0
            self._items.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        while True:
            with self._changed:
                self._found += self._load
                self._taken += 1
                self.reader_waited += self._wait(
                    lambda: bool(self._items) or self._finished or self._cancelled
                )
                if not self._items:
                    if self._error is not None:
                        raise self._error
                    return
                item = self._items.popleft()
                self._load -= max(self._weigh(item), 1)
                self._changed.notify_all()
            yield item
            # Not kept while the reader waits for the next one: an item can be a large image.
            del item

    def _wait(self, until: Callable[[], bool]) -> float:
        """Wait for ``until``; return the seconds that it took."""
        if until():
            return 0.0
        started = time.perf_counter()
        self._changed.wait_for(until)
        return time.perf_counter() - started


def ordered_map(
    pool: Executor, function: Callable[[T], R], items: Iterable[T], window: int
) -> Iterator[R]:
    """Apply ``function`` on ``pool`` to at most ``window`` items at once; results in order."""
    waiting: deque[Future[R]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= window:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


class Prefetch(Generic[T]):
    """Run ``items`` on a thread, at most ``depth`` ahead; a context manager that ends it.

    Attributes:
        channel: the queue between the thread and the reader.
    """

    def __init__(self, items: Iterable[T], depth: int, weigh: Callable[[T], int] = _one) -> None:
        self._items = items
        self.channel: Channel[T] = Channel(depth, weigh)
        self._thread = threading.Thread(target=self._run, name="prefetch", daemon=True)

    def _run(self) -> None:
        try:
            for item in self._items:
                self.channel.put(item)
        except Cancelled:
            pass
        except BaseException as error:  # noqa: BLE001 - raised again in the reader's thread
            self.channel.finish(error)
        else:
            self.channel.finish()

    def __enter__(self) -> Iterator[T]:
        self._thread.start()
        return iter(self.channel)

    def __exit__(self, *_: object) -> None:
        self.channel.cancel()
        self._thread.join()


class Sink(Generic[T]):
    """Feed what is put to ``consume`` on a thread; a context manager that waits for it to end.

    When ``consume`` raises, the next `put` or the end of the ``with`` block raises the same error.

    Attributes:
        channel: the queue between the writer and the thread.
    """

    def __init__(
        self,
        consume: Callable[[Iterator[T]], None],
        depth: int,
        weigh: Callable[[T], int] = _one,
    ) -> None:
        self._consume = consume
        self.channel: Channel[T] = Channel(depth, weigh)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="sink", daemon=True)

    def _run(self) -> None:
        try:
            self._consume(iter(self.channel))
        except BaseException as error:  # noqa: BLE001 - raised again in the writer's thread
            self._error = error
            self.channel.cancel()

    def put(self, item: T) -> None:
        """Hand ``item`` over, waiting for room."""
        try:
            self.channel.put(item)
        except Cancelled:
            self._thread.join()
            assert self._error is not None
            raise self._error from None

    def __enter__(self) -> "Sink[T]":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.channel.finish()
        else:
            # A cut stream must not look like a finished one to the consumer.
            self.channel.finish(Cancelled())
        self._thread.join()
        if kind is None and self._error is not None:
            raise self._error
