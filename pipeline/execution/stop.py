"""Stopping a run by SIGINT or SIGTERM so that running it again finishes it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(KeyboardInterrupt):
    """The run was told to stop; what was committed stays and the same command resumes.

    Args:
        signum: number of the signal that asked.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(
            f"stopped by {signal.Signals(signum).name}; run the same command to resume"
        )
        self.exit_code = 128 + signum


class StopFlag:
    """Remembers the first signal: what a handler raises can be swallowed by a callback."""

    def __init__(self) -> None:
        self._signum = 0

    def handle(self, signum: int, _frame: FrameType | None) -> None:
        """Signal handler: remember and raise."""
        self._signum = self._signum or signum
        raise Interrupted(signum)

    def check(self) -> None:
        """Raise `Interrupted` when a signal came."""
        if self._signum:
            raise Interrupted(self._signum)


@contextmanager
def stop_on_signals() -> Iterator[StopFlag]:
    """Turn SIGINT and SIGTERM into `Interrupted`; other threads than the main one cannot."""
    flag = StopFlag()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return
    before = {s: signal.signal(s, flag.handle) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield flag
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
