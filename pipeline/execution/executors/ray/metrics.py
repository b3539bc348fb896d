"""Counters and gauges of a run at the Prometheus endpoint of its driver's node."""

import time
from collections import deque

from ray.util.metrics import Counter, Gauge

from ....data.ledger import LedgerRecord

_WINDOW_SECONDS = 300.0
_BIN_SECONDS = 1.0


class Metrics:
    """What Ray exports as ``ray_unlearnable_*``, each with the tag ``output``.

    Args:
        output: URL of the output directory.
    """

    def __init__(self, output: str) -> None:
        self._tags = {"output": output}
        self._done = self._counter("shards_done", "Shards that were committed.")
        self._failed = self._counter("shards_failed", "Shards that were given up.")
        self._samples = self._counter("samples", "Samples of committed shards.")
        self._retries = self._counter("retries", "Attempts at shards that did not count as last.")
        self._storage = self._counter("storage_retries", "Storage operations that were repeated.")
        self._losses = self._counter("losses", "Attempts that were lost with their node.")
        self._rate = self._gauge("samples_per_second", "Samples a second over five minutes.")
        self._loss = self._gauge("loss", "Mean loss after protection of the last shard.")
        self._depth = self._gauge("queue_depth", "Shards that no worker has begun.")
        self._busy = self._gauge("shards_in_work", "Shards that were given to a worker.")
        self._workers = self._gauge("workers", "Worker processes that have started.")
        # Begin and samples of each second: a run may end thousands of shards in a window.
        self._recent: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])

    def ended(self, record: object) -> None:
        """Count the end of a shard."""
        if not isinstance(record, LedgerRecord):
            return
        (self._failed if record.status == "failed" else self._done).inc(1)
        if record.samples:
            self._samples.inc(record.samples)
        if record.retries:
            self._storage.inc(record.retries)
        if record.loss is not None:
            self._loss.set(record.loss)
        begun, samples = self._recent[-1]
        now = time.monotonic()
        if len(self._recent) > 1 and now - begun < _BIN_SECONDS:
            self._recent[-1] = begun, samples + record.samples
        else:
            self._recent.append((now, record.samples))

    def again(self, *, lost: bool) -> None:
        """Count an attempt that is followed by another one; or that was lost with its node."""
        (self._losses if lost else self._retries).inc(1)

    def level(self, waiting: int, in_work: int, workers: int) -> None:
        """Set what is so now."""
        now = time.monotonic()
        while len(self._recent) > 1 and now - self._recent[1][0] > _WINDOW_SECONDS:
            self._recent.popleft()
        samples = sum(count for _, count in list(self._recent)[1:])
        self._rate.set(samples / max(now - self._recent[0][0], 1e-9))
        self._depth.set(waiting)
        self._busy.set(in_work)
        self._workers.set(workers)

    def _counter(self, name: str, text: str) -> Counter:
        counter = Counter(f"unlearnable_{name}", text, tag_keys=("output",))
        counter.set_default_tags(self._tags)
        return counter

    def _gauge(self, name: str, text: str) -> Gauge:
        gauge = Gauge(f"unlearnable_{name}", text, tag_keys=("output",))
        gauge.set_default_tags(self._tags)
        return gauge
