"""Checks of options that several commands share; each message names the option."""

from collections.abc import Sequence

import torch

from ..errors import UsageError


def check_least(config: object, least: int, *names: str) -> None:
    """Refuse numbers below ``least``; those that are unset pass.

    Raises:
        UsageError: the message names the option.
    """
    for name in names:
        value = vars(config)[name]
        if value is not None and value < least:
            raise UsageError(f"{name.replace('_', '-')} is {value}; it must be at least {least}")


def check_caption_fields(fields: Sequence[str]) -> None:
    """Refuse an empty list of caption fields, and empty names in it. Raises UsageError."""
    if not fields or not all(fields):
        raise UsageError(
            "caption-fields is empty; name the fields of .json members that hold captions, "
            "or leave the option out"
        )


def check_device_name(name: str) -> None:
    """Refuse what is no torch device anywhere; whether there is one is known where it is used.

    Raises:
        UsageError: the name means no device.
    """
    if name == "auto":
        return
    try:
        torch.device(name)
    except RuntimeError as error:
        raise UsageError(
            f"device is {name}, which means none; it must be auto, cpu, cuda or cuda:NUMBER"
        ) from error


def choose_device(name: str) -> str:
    """Return the torch device that ``name`` means here; ``auto`` is cuda where there is one.

    Raises:
        UsageError: the name means no device, or this machine has none of that name.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    check_device_name(name)
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).split("\n", maxsplit=1)[0]
        raise UsageError(
            f"device {name} cannot be used on this machine ({reason}); use cpu or auto"
        ) from error
    return name
