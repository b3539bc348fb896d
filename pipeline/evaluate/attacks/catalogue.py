"""The attacks by name, and how ``NAME[:ARG]`` is read."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Literal

from ...errors import UsageError


@dataclass(frozen=True)
class Kind:
    """An attack before its argument is known.

    Attributes:
        stage: what it changes: each published ``image``, the ``captions``, the ``corpus`` at the
            victim's size, or what each epoch of the ``training`` sees.
        argument: what messages call its argument; empty where it takes none.
        default: the argument left out; None where the corpus' manifest tells it.
        low: smallest argument.
        high: largest argument.
        step: arguments are ``low`` plus a multiple of it; 0 where fractions are allowed.
        needs_clean: it reads the unprotected corpus too.
        needs_trigger: it has to know how many words a trigger has.
    """

    stage: Literal["image", "captions", "corpus", "training"]
    argument: str = ""
    default: float | None = None
    low: float = 1
    high: float = 1
    step: int = 1
    needs_clean: bool = False
    needs_trigger: bool = False


_LARGEST_TRIGGER = 16
_MANY_PAIRS = 1_000_000

KINDS = {
    "jpeg": Kind("image", "QUALITY", 75, 1, 100),
    "crawl": Kind("image"),
    "down-up": Kind("image", "FACTOR", 2, 1, 32, 0),
    "gray": Kind("image"),
    "blur": Kind("image", "SIGMA", 1, 0.1, 64, 0),
    "median": Kind("image", "SIZE", 3, 3, 31, 2),
    "bits": Kind("image", "N", 4, 1, 8),
    "noise": Kind("image", "SIGMA", 8, 0, 128, 0),
    "augment": Kind("training"),
    "strip-trigger": Kind("captions", "K", None, 1, _LARGEST_TRIGGER, needs_trigger=True),
    "shuffle-words": Kind("captions"),
    "replace-caption": Kind("captions", needs_clean=True),
    "share": Kind("corpus", "PERCENT", 50, 1, 100, needs_clean=True),
    "average": Kind("corpus", "K", None, 1, _LARGEST_TRIGGER, needs_trigger=True),
    "average-highpass": Kind("corpus", "K", None, 1, _LARGEST_TRIGGER, needs_trigger=True),
    "average-leaked": Kind(
        "corpus", "PAIRS", 500, 2, _MANY_PAIRS, needs_clean=True, needs_trigger=True
    ),
    "purify": Kind("corpus", "PAIRS", 500, 2, _MANY_PAIRS, needs_clean=True),
}


@dataclass(frozen=True)
class Attack:
    """One attack with its argument; ``value`` is None where it takes none or the manifest has it.

    The argument of ``strip-trigger`` and of the averages but ``average-leaked`` is the number of
    trigger words, of ``purify`` and ``average-leaked`` the number of leaked pairs.
    """

    name: str
    value: float | None = None

    @property
    def kind(self) -> Kind:
        """What is known of it before its argument."""
        return KINDS[self.name]

    def __str__(self) -> str:
        return self.name if self.value is None else f"{self.name}:{self.value:g}"


def parse_attacks(texts: tuple[str, ...]) -> list[Attack]:
    """Return the attacks that are written as ``NAME[:ARG]``.

    Raises:
        UsageError: an unknown name, an argument out of range, an attack named twice.
    """
    attacks = [_parse(text) for text in texts]
    for attack in attacks:
        if attacks.count(attack) > 1:
            raise UsageError(f"attack {attack} is asked for twice")
    return attacks


def _parse(text: str) -> Attack:
    name, colon, argument = text.partition(":")
    kind = KINDS.get(name)
    if kind is None:
        near = difflib.get_close_matches(name, KINDS, n=1, cutoff=0.0)[0]
        raise UsageError(
            f"no attack is called {name!r}; did you mean {near!r}? There are: {', '.join(_forms())}"
        )
    if not kind.argument:
        if colon:
            raise UsageError(f"attack {name} takes no argument, not {argument!r}")
        return Attack(name)
    return Attack(name, _number(name, kind, argument) if colon else kind.default)


def _number(name: str, kind: Kind, text: str) -> float:
    try:
        value = float(text)
        valid = kind.low <= value <= kind.high
        valid &= not kind.step or (value - kind.low) % kind.step == 0
    except ValueError:
        valid = False
    if not valid:
        numbers = {0: "a number", 1: "a whole number", 2: "an odd number"}[kind.step]
        raise UsageError(
            f"attack {name} wants {name}:{kind.argument} with {numbers} from {kind.low:g} to "
            f"{kind.high:g}, not {text!r}"
        )
    return value


def _forms() -> list[str]:
    return [f"{name}[:{kind.argument}]" if kind.argument else name for name, kind in KINDS.items()]
