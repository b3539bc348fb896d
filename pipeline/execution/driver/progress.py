"""How far a run is: a bar on a terminal, log lines elsewhere; the steps of a whole run are one."""

import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from threading import Event, RLock, Thread
from typing import Never, Self

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

log = logging.getLogger(__name__)

_LINE_SECONDS = 10.0
# How often a display asks for its text.
_BAR_SECONDS = 0.5
_TICK_SECONDS = 1.0
# A step that took less of its expected time was done before and says nothing about this machine.
_DONE_BEFORE = 0.1
# Work as fast as expected that weighs against what was measured.
_PRIOR_SECONDS = 20.0


def duration(seconds: float) -> str:
    """Return a time as people say it: `40 s`, `3 min`, `2.5 h`, `4.2 days`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    hours = seconds / 3600
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"


class _Display:
    """Shows a share and a text: a bar on a terminal, a log line every ten seconds elsewhere.

    A thread asks for them, so that long work that reports nothing is not silent. A context manager.

    Args:
        render: returns the share that is done, 0 to 1, and the text.
    """

    def __init__(self, render: Callable[[], tuple[float, str]]) -> None:
        self._render = render
        self._over = Event()
        self._lock = RLock()
        self._bar: tqdm[Never] | None = None
        self._last = time.monotonic()
        self._stack = ExitStack()
        self._thread = Thread(target=self._tick, name="progress", daemon=True)

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            look = "{percentage:3.0f} % |{bar:20}| {desc}"
            self._bar = tqdm(total=1.0, bar_format=look, dynamic_ncols=True)
            # What is logged meanwhile stands above the bar.
            self._stack.enter_context(logging_redirect_tqdm())
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._stack.close()
        if self._bar is not None:
            self._bar.close()

    def show(self, *, now: bool = False) -> None:
        """Show what `render` says; log lines come every ten seconds, or ``now``."""
        with self._lock:
            if self._bar is not None:
                share, text = self._render()
                self._bar.n = min(share, 1.0)
                self._bar.set_description_str(text)
            elif now or time.monotonic() - self._last >= _LINE_SECONDS:
                self._last = time.monotonic()
                log.info("%s", self._render()[1])

    def _tick(self) -> None:
        pause = _BAR_SECONDS if self._bar is not None else _TICK_SECONDS
        while not self._over.wait(pause):
            self.show()


class Progress:
    """Shows units of work, samples a second and the time left; a context manager.

    Within `Steps` it speaks through their display.

    Args:
        total: units of the work; `reach` may change it.
        done: units that an earlier run did.
        unit: name of a unit: shard, step.
        what: what is done to them; stands in front.
        in_work: returns the samples done of units that are not done.
    """

    def __init__(
        self,
        total: int,
        done: int = 0,
        *,
        unit: str = "shard",
        what: str = "",
        in_work: Callable[[], int] | None = None,
    ) -> None:
        self._total, self._done, self._first = total, done, done
        self._unit, self._what, self._in_work = unit, what, in_work
        self._samples = 0
        self._loss: float | None = None
        self._start = time.time()
        self._steps = _CURRENT.get()
        self._display = _Display(self.render) if self._steps is None else None

    def __enter__(self) -> Self:
        if self._steps is not None:
            self._steps.follow(self)
        elif self._display is not None:
            self._display.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        if self._steps is not None:
            self._steps.follow(None)
        elif self._display is not None:
            self._display.__exit__()

    def update(self, samples: int = 0, started: float | None = None) -> None:
        """Count one finished unit of ``samples``, begun at ``started`` (seconds since 1970)."""
        if self._done == self._first:
            # Starting actors and loading models is over when the first unit begins.
            self._start = max(self._start, started or self._start)
        self._samples += samples
        self.reach(self._done + 1)

    def reach(self, done: int, total: int | None = None, loss: float | None = None) -> None:
        """Say that ``done`` units of ``total`` are done, and the loss where there is one."""
        self._loss = loss
        self._total = self._total if total is None else total
        self._done = done
        display = self._steps.display if self._steps is not None else self._display
        if display is not None:
            display.show(now=done == self._total)

    @property
    def share(self) -> float:
        """Share of this run's units that is done, 0 to 1; units in work count by their samples."""
        part, units = 0.0, self._done - self._first
        size = self._samples / units if units else self._expected_size()
        if size and self._in_work is not None:
            part = self._in_work() / size
        return min(1.0, (units + part) / max(1, self._total - self._first))

    def render(self) -> tuple[float, str]:
        """Return the share of all units that is done, and a line that says it."""
        share = self.share
        left = self._left(share)
        end = f", about {duration(left)} left" if left is not None else ""
        before = self._first / max(1, self._total)
        return before + share * (1 - before), self.text + end

    @property
    def text(self) -> str:
        """How far it is, without the time left."""
        units = f"{self._done} of {self._total} {self._unit}s"
        samples = self._samples + (self._in_work() if self._in_work is not None else 0)
        rate = samples / max(time.time() - self._start, 1e-9)
        parts = [f"{self._what}: {units}" if self._what else units]
        if samples:
            parts.append(f"{rate:.1f} samples/s" if self._samples else f"{samples} samples")
        if self._loss is not None:
            parts.append(f"loss {self._loss:.3f}")
        return ", ".join(parts)

    def _left(self, share: float) -> float | None:
        return (time.time() - self._start) * (1 - share) / share if share else None

    def _expected_size(self) -> float:
        samples = self._steps.samples if self._steps is not None else None
        return samples / self._total if samples and self._total else 0.0


class Steps:
    """Shows several steps as one run, with the time to its end; a context manager.

    Args:
        expected: seconds of each step by name, in order, on a machine of no particular speed; how
            long the steps so far took says how fast this one is.

    Attributes:
        samples: samples of the collection where they are known.
        display: shows it.
    """

    def __init__(self, expected: Mapping[str, float]) -> None:
        self._expected = dict(expected)
        self._names = list(expected)
        self._name = self._names[0]
        self._began = time.monotonic()
        self._share = 0.0
        self._inner: Progress | None = None
        # Expected and real seconds of the steps that were really taken.
        self._past, self._took = 0.0, 0.0
        self.samples: int | None = None
        self.display = _Display(self.render)

    def __enter__(self) -> Self:
        self._token = _CURRENT.set(self)
        self.display.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.display.__exit__()
        _CURRENT.reset(self._token)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Show what is done meanwhile as the step ``name``."""
        self._name, self._began, self._inner = name, time.monotonic(), None
        self.display.show(now=True)
        yield
        took = time.monotonic() - self._began
        if took >= _DONE_BEFORE * self._expected[name]:
            self._past += self._expected[name]
            self._took += took

    def expect(self, expected: Mapping[str, float]) -> None:
        """Replace expectations by better ones."""
        self._expected |= {name: expected[name] for name in self._names if name in expected}

    def follow(self, inner: Progress | None) -> None:
        """Take the share of the present step from ``inner``."""
        self._inner = inner

    def render(self) -> tuple[float, str]:
        """Return the share of the whole that is done, and a line that says it."""
        number = self._names.index(self._name)
        text = f"step {number + 1} of {len(self._names)}, {self._name}"
        took = time.monotonic() - self._began
        inner = self._inner
        share = inner.share if inner is not None else 0.0
        whole = sum(self._expected.values())
        before = sum(self._expected[name] for name in self._names[:number])
        later = sum(self._expected[name] for name in self._names[number + 1 :])
        expected = self._expected[self._name]
        past, real = self._past + share * expected, self._took + (took if share else 0.0)
        # What a short step took says little about a long one.
        speed = (real + _PRIOR_SECONDS) / (past + _PRIOR_SECONDS)
        here = took * (1 - share) / share if share else expected * speed - took
        left = f"about {duration(here + later * speed)} left in all"
        if here < 0:
            # Nothing is measured yet, and it takes longer than expected.
            here, left = 0.0, f"for {duration(took)}, longer than expected"
        shown = share or took / (took + here + 1e-9)
        middle = f": {inner.text}" if inner is not None else ""
        return (before + shown * expected) / max(whole, 1e-9), f"{text}{middle}, {left}"


_CURRENT: ContextVar[Steps | None] = ContextVar("steps", default=None)
