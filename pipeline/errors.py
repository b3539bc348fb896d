"""Errors that a run can report, each with the exit code it ends in."""


class UnlearnableError(Exception):
    """Base of every error that carries a message for the user."""

    exit_code = 2


class UsageError(UnlearnableError, ValueError):
    """The request cannot be carried out as written; the message names the remedy."""


class BusyError(UsageError):
    """Another run has the output; when that has ended the same request can be carried out."""

    exit_code = 3


class ShardError(UnlearnableError):
    """One shard cannot be used; it fails alone and the run goes on."""

    exit_code = 3


class SampleError(UnlearnableError):
    """One sample cannot be protected and is quarantined.

    Args:
        reason: short slug that the manifest keeps, e.g. ``image_undecodable``.
        message: what was found, for people.
    """

    exit_code = 3

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class UnavailableError(OSError):
    """A store did not answer, several times over; what was committed stays."""

    exit_code = 3


class ViolationError(UnlearnableError):
    """A published file does not keep its promise."""

    exit_code = 4
