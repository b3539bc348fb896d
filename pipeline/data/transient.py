"""Errors of remote stores that pass: told from those that stay, waited out, counted."""

import errno
import io
import logging
import threading
from collections.abc import Callable
from typing import Any, BinaryIO, TypeVar

from tenacity import RetryCallState, RetryError, Retrying, retry_if_exception, stop_after_attempt
from tenacity.wait import wait_random_exponential

from ..errors import UnavailableError, UsageError

log = logging.getLogger(__name__)

T = TypeVar("T")

ATTEMPTS = 7
_LASTING = (
    FileExistsError,
    FileNotFoundError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
)
_LASTING_NUMBERS = {
    errno.EDQUOT, errno.EFBIG, errno.EINVAL, errno.ENOSPC, errno.ENOSYS, errno.EPERM, errno.ESTALE
}  # fmt: skip
# Codes of S3 that s3fs calls invalid arguments although the connection is to blame.
_PASSING_CODES = {"BadDigest", "IncompleteBody", "RequestTimeout", "XAmzContentSHA256Mismatch"}
# What the libraries of stores find wrong before they send a request, and the remedy.
_REFUSED = {
    "NoCredentialsError": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    "PartialCredentialsError": "set both AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "ProfileNotFound": "mend AWS_PROFILE",
    "ParamValidationError": "mend the URL",
    "HFValidationError": "write hf://datasets/OWNER/NAME",
    "HfUriError": "write hf://datasets/OWNER/NAME",
}
_PASSING_STATUS = {408, 425, 429}


class _Counter:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.value = 0

    def add(self) -> None:
        with self._lock:
            self.value += 1


_counter = _Counter()


def retries() -> int:
    """Return how many storage operations this process has repeated so far."""
    return _counter.value


def retried(what: str, operation: Callable[[], T]) -> T:
    """Return what ``operation`` returns, repeated when a store's trouble looks like it will pass.

    At most ``ATTEMPTS`` attempts; the waits between them are random, their upper limit doubles from
    half a second to 30 s, so that workers that were throttled together do not come back together.

    Args:
        what: what is done to which URL, for the log.
        operation: has to be safe to repeat.

    Raises:
        UnavailableError: all attempts failed.
        UsageError: the request cannot be sent: no credentials, no name of a bucket.
        Exception: what does not look like passing.
    """

    def note(state: RetryCallState) -> None:
        _counter.add()
        error = state.outcome.exception() if state.outcome is not None else None
        pause = state.next_action.sleep if state.next_action is not None else 0.0
        log.warning(
            "%s: %s: %s; attempt %d of %d in %.1f s",
            what, type(error).__name__, " ".join(str(error).split())[:200],
            state.attempt_number + 1, ATTEMPTS, pause,
        )  # fmt: skip

    policy = Retrying(
        retry=retry_if_exception(is_transient),
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_random_exponential(multiplier=0.5, max=30.0),
        before_sleep=note,
    )
    try:
        return policy(lambda: _sendable(what, operation))
    except RetryError as given_up:
        error = given_up.last_attempt.exception()
        reason = " ".join(str(error).split())
        raise UnavailableError(
            f"{what}: {type(error).__name__}: {reason} ({ATTEMPTS} attempts)"
        ) from error


def _sendable(what: str, operation: Callable[[], T]) -> T:
    """Return what ``operation`` returns; tell the user what keeps its request from being sent."""
    try:
        return operation()
    except Exception as error:
        remedy = _REFUSED.get(type(error).__name__)
        if remedy is None:
            if _is_foreign(error) and not is_transient(error):
                reason = " ".join(str(error).split())
                raise UnavailableError(f"{what}: {type(error).__name__}: {reason}") from error
            raise
        reason = str(error).splitlines()[-1].split(": Bucket name must")[0]
        raise UsageError(f"{what}: {reason}; {remedy}") from error


def is_transient(error: BaseException) -> bool:
    """Tell whether the same request may succeed a little later."""
    status = _status(error)
    if status is not None:
        return status in _PASSING_STATUS or status >= 500
    if isinstance(error, FileNotFoundError) and error.__cause__ is not None:
        # fsspec calls whatever a web server answers "not found".
        return is_transient(error.__cause__)
    response = getattr(error.__cause__, "response", None)
    if isinstance(response, dict) and response.get("Error", {}).get("Code") in _PASSING_CODES:
        return True
    if isinstance(error, OSError):
        return not isinstance(error, _LASTING) and error.errno not in _LASTING_NUMBERS
    return _is_foreign(error)


def _status(error: BaseException) -> int | None:
    """Return the HTTP status that the libraries of stores keep in three ways."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        found = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    else:
        found = getattr(response, "status_code", getattr(error, "status", None))
    return found if isinstance(found, int) else None


def _is_foreign(error: BaseException) -> bool:
    """Whether a store's own library raised it, which says nothing of what is wrong."""
    module = type(error).__module__.partition(".")[0]
    own = module in {"builtins", __name__.partition(".")[0]}
    return isinstance(error, Exception) and not own and not isinstance(error, OSError)


class ResumingStream(io.RawIOBase):
    """Sequential read that goes on where it was cut off.

    Args:
        url: what is read, for messages.
        open_at: opens the file at a byte position and tells its version (None when unknown).

    Raises (while reading):
        OSError: the file changed between two openings, or it stays unreadable.
    """

    def __init__(self, url: str, open_at: Callable[[int], tuple[BinaryIO, Any]]) -> None:
        super().__init__()
        self._url = url
        self._open_at = open_at
        self._position = 0
        self._file: BinaryIO | None = None
        self._version: Any = None
        # Missing files and forbidden ones are told when they are opened, not when they are read.
        retried(f"open {url}", self._reopen)

    def readable(self) -> bool:
        """Return True."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Return up to ``size`` bytes, none at the end."""
        return retried(f"read {self._url}", lambda: self._read(size))

    def readall(self) -> bytes:
        """Return the rest."""
        return b"".join(iter(lambda: self.read(1 << 20), b""))

    def readinto(self, buffer: Any) -> int:
        """Fill ``buffer`` as far as data come; return their number."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Close the file."""
        self._drop()
        super().close()

    def _read(self, size: int) -> bytes:
        if self._file is None:
            self._reopen()
        assert self._file is not None
        try:
            data = self._file.read(size)
        except BaseException:
            self._drop()
            raise
        self._position += len(data)
        return data

    def _reopen(self) -> None:
        file, version = self._open_at(self._position)
        if self._version is None:
            self._version = version
        elif version != self._version:
            file.close()
            raise OSError(errno.ESTALE, f"{self._url} was replaced while it was read")
        self._file = file

    def _drop(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()
