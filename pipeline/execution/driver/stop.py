"""Stopping a run by SIGINT or SIGTERM so that running it again finishes it."""

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

log = logging.getLogger(__name__)


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
    """Remembers the first signal: what a handler raises can be swallowed by a callback.

    Args:
        grace: seconds that work in progress has to end after a SIGTERM; nothing new is begun.
    """

    def __init__(self, grace: float = 0.0) -> None:
        self._grace = grace
        self._signum = 0
        self._at_once = False
        self._timer: threading.Timer | None = None

    @property
    def ending(self) -> bool:
        """Whether a signal came."""
        return self._signum != 0

    def handle(self, signum: int, _frame: FrameType | None) -> None:
        """Signal handler: remember and raise, the first SIGTERM only when its grace is over."""
        first = not self._signum
        self._signum = self._signum or signum
        if first and signum == signal.SIGTERM and self._grace > 0:
            log.warning("SIGTERM: what is in work has %g s to end", self._grace)
            timer = threading.Timer(self._grace, os.kill, (os.getpid(), signal.SIGTERM))
            timer.daemon = True
            timer.start()
            self._timer = timer
            return
        self._at_once = True
        raise Interrupted(self._signum)

    def check(self) -> None:
        """Raise `Interrupted` when a signal came: before anything new is begun."""
        if self._signum:
            raise Interrupted(self._signum)

    def check_now(self) -> None:
        """Raise `Interrupted` when no grace is left: while something is in work."""
        if self._at_once:
            raise Interrupted(self._signum)

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Raise what a handler raised when a library has put a plain KeyboardInterrupt for it."""
        try:
            yield
        except KeyboardInterrupt as error:
            if self._signum and not isinstance(error, Interrupted):
                raise Interrupted(self._signum) from error
            raise

    def close(self) -> None:
        """End the grace."""
        if self._timer is not None:
            self._timer.cancel()


@contextmanager
def stop_on_signals(grace: float = 0.0) -> Iterator[StopFlag]:
    """Turn SIGINT and SIGTERM into `Interrupted`; other threads than the main one cannot."""
    flag = StopFlag(grace)
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return
    before = {s: signal.signal(s, flag.handle) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield flag
    finally:
        flag.close()
        for signum, handler in before.items():
            signal.signal(signum, handler)
