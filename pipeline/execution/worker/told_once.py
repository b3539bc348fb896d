"""What is wrong with the samples of a shard, told once a reason instead of once a sample."""

import logging
from threading import Lock

from ...errors import SampleError

log = logging.getLogger(__name__)


class ToldOnce:
    """Gathers errors of samples; threads may add at once.

    Args:
        shard: their shard's name.
        what: what becomes of such a sample, for the log.
    """

    def __init__(self, shard: str, what: str) -> None:
        self._shard, self._what = shard, what
        self._lock = Lock()
        self._counts: dict[str, int] = {}
        self._first: dict[str, str] = {}

    def add(self, key: str, error: SampleError) -> None:
        """Count one sample."""
        with self._lock:
            self._counts[error.reason] = self._counts.get(error.reason, 0) + 1
            message = str(error).removeprefix(f"{key}: ")
            self._first.setdefault(error.reason, f"{key}: {message}")

    def tell(self) -> None:
        """Log a line for each reason, with the number of samples and the first of them."""
        for reason, count in sorted(self._counts.items()):
            samples = "sample is" if count == 1 else "samples are"
            first = self._first[reason]
            log.warning(
                "%s: %d %s %s (%s), first %s",
                self._shard,
                count,
                samples,
                self._what,
                reason,
                first,
            )
