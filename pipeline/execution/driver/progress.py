"""How far a run is: a bar on a terminal, log lines elsewhere."""

import logging
import sys
import time
from typing import Never, Self

from tqdm import tqdm

log = logging.getLogger(__name__)

_LINE_SECONDS = 10.0


class Progress:
    """Shows finished shards, samples a second and the time left; a context manager.

    Args:
        total: shards of the plan.
        done: shards that an earlier run committed.
    """

    def __init__(self, total: int, done: int) -> None:
        self._total, self._done, self._first = total, done, done
        self._samples = 0
        self._start = self._last_line = time.time()
        self._bar: tqdm[Never] | None = None
        if sys.stderr.isatty():
            self._bar = tqdm(total=total, initial=done, unit="shard", dynamic_ncols=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def update(self, samples: int, started: float | None = None) -> None:
        """Count one finished shard of ``samples``, begun at ``started`` (seconds since 1970)."""
        self._done += 1
        self._samples += samples
        now = time.time()
        if self._done == self._first + 1:
            # Starting actors and loading models is over when the first shard begins.
            self._start = max(self._start, started or self._start)
        rate = self._samples / max(now - self._start, 1e-9)
        if self._bar is not None:
            self._bar.set_postfix_str(f"{rate:.1f} samples/s", refresh=False)
            self._bar.update()
        elif now - self._last_line >= _LINE_SECONDS or self._done == self._total:
            self._last_line = now
            each = (now - self._start) / (self._done - self._first)
            log.info("%d of %d shards, %.1f samples/s, about %.0f s left",
                     self._done, self._total, rate, each * (self._total - self._done))  # fmt: skip
