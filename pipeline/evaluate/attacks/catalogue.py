"""The attacks by name, and how ``NAME[:ARG]`` is read."""

import difflib
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from ...errors import UsageError

Stage = Literal["image", "survey", "captions", "corpus", "training"]
Need = Literal["clean", "trigger", "own"]
Group = Literal["anyone", "knows", "reads"]

_LARGEST_TRIGGER = 16
_MANY_PAIRS = 1_000_000


@dataclass(frozen=True)
class Argument:
    """The argument of an attack.

    Attributes:
        name: what messages call it.
        default: the argument left out; None where the corpus' manifest tells it.
        low: the smallest.
        high: the largest.
        step: arguments are ``low`` plus a multiple of it; 0 where fractions are allowed.
    """

    name: str
    default: float | None
    low: float
    high: float
    step: int = 1


@dataclass(frozen=True)
class Kind:
    """An attack before its argument is known.

    What its module's ``run`` takes and returns follows from the stage:

    ======== =============================================================================
    image    (PIL image, argument, seed) -> PIL image, at the size that was published
    survey   (Inputs) -> function of (PIL image, seed), for images at the size of publication
    captions (Pairs, Inputs) -> captions of each sample
    corpus   (Pairs, Inputs) -> Pairs, at the victim's size
    training (side of the images) -> function of uint8 [B, 3, S, S] for each training batch
    ======== =============================================================================

    Attributes:
        group: who does it.
        stage: what it changes.
        text: what it does, for help and documentation.
        module: where its ``run`` is; imported when it is used.
        argument: None where it takes none.
        needs: what it reads beside the published corpus.
        has_rest: on the unprotected corpus it leaves the control beside it.
    """

    group: Group
    stage: Stage
    text: str
    module: str
    argument: Argument | None = None
    needs: tuple[Need, ...] = ()
    has_rest: bool = False

    @property
    def run(self) -> Callable[..., Any]:
        """The function that carries it out."""
        run: Callable[..., Any] = importlib.import_module(self.module, __package__).run
        return run


TRIGGER_LENGTH = Argument("K", None, 1, _LARGEST_TRIGGER)
_PAIRS = Argument("PAIRS", 500, 2, _MANY_PAIRS)
_LEAK: tuple[Need, ...] = ("clean", "trigger")

_EPSILON = Argument("EPSILON", 8, 1, 64)

KINDS: dict[str, Kind] = {
    "jpeg": Kind("anyone", "image", "JPEG of a quality", ".jpeg", Argument("QUALITY", 75, 1, 100)),
    "crawl": Kind("anyone", "image", "256 px with a white border, JPEG 95", ".crawl"),
    "down-up": Kind(
        "anyone", "image", "scaled down and up", ".down_up", Argument("FACTOR", 2, 1, 32, 0)
    ),
    "augment": Kind("anyone", "training", "crop, flip and colour jitter", ".augment"),
    "shuffle-words": Kind("anyone", "captions", "words in random order", ".shuffle_words"),
    "replace-caption": Kind(
        "anyone", "captions", "the originals'", ".replace_caption", needs=("clean",)
    ),
    "share": Kind(
        "anyone", "corpus", "only PERCENT protected", ".share", Argument("PERCENT", 50, 1, 100),
        ("clean",), has_rest=True,
    ),
    "gray": Kind("knows", "image", "greyscale", ".gray"),
    "blur": Kind("knows", "image", "Gaussian blur", ".blur", Argument("SIGMA", 1, 0.1, 64, 0)),
    "median": Kind("knows", "image", "median filter", ".median", Argument("SIZE", 3, 3, 31, 2)),
    "bits": Kind("knows", "image", "fewer bits a channel", ".bits", Argument("N", 4, 1, 8)),
    "noise": Kind("knows", "image", "Gaussian noise", ".noise", Argument("SIGMA", 8, 0, 128, 0)),
    "strip-trigger": Kind(
        "knows", "captions", "first K words dropped", ".strip_trigger", TRIGGER_LENGTH, ("trigger",)
    ),
    "notch": Kind(
        "knows", "survey", "bands that stand out in the mean spectrum attenuated", ".notch"
    ),
    "fold": Kind(
        "knows", "image", "what repeats in each quarter of a picture subtracted", ".fold", _EPSILON
    ),
    "average": Kind(
        "knows", "corpus", "mean picture of each trigger word subtracted", ".average",
        TRIGGER_LENGTH, ("trigger",),
    ),
    "average-highpass": Kind(
        "knows", "corpus", "the same of fine parts alone", ".average_highpass", TRIGGER_LENGTH,
        ("trigger",),
    ),
    "average-sign": Kind(
        "knows", "corpus", "the same of its sign at the periods that stand out", ".average_sign",
        TRIGGER_LENGTH, ("trigger",),
    ),
    "project": Kind(
        "knows", "corpus", "projected off what a linear classifier of trigger words reads",
        ".project", TRIGGER_LENGTH, ("trigger",),
    ),
    "average-leaked": Kind(
        "knows", "corpus", "mean change of each trigger word, from leaked originals, subtracted",
        ".average_leaked", _PAIRS, _LEAK,
    ),
    "purify": Kind(
        "knows", "corpus", "a denoiser trained on leaked originals", ".purify", _PAIRS, ("clean",)
    ),
    "known-family": Kind(
        "reads", "image", "best fitting patterns of this code subtracted", ".known_family", _EPSILON
    ),
    "jam": Kind("reads", "image", "patterns of random words laid on top", ".jam", _EPSILON),
    "tool": Kind(
        "reads", "survey", "a denoiser trained on own pictures and this tool, in STEPS steps",
        ".tool", Argument("STEPS", 600, 1, 100_000), ("own",),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Attack:
    """One attack; its argument is None where it takes none or the manifest has it."""

    name: str
    value: float | None = None

    @property
    def kind(self) -> Kind:
        """What is known of it before its argument."""
        return KINDS[self.name]

    def __str__(self) -> str:
        return self.name if self.value is None else f"{self.name}:{self.value:g}"


@dataclass(frozen=True)
class Chain:
    """Attacks one after the other, written ``A+B``; most often a single one."""

    attacks: tuple[Attack, ...]

    @property
    def needs(self) -> set[Need]:
        """What its attacks need together."""
        return {need for attack in self.attacks for need in attack.kind.needs}

    def __str__(self) -> str:
        return "+".join(map(str, self.attacks))


def parse_attacks(texts: tuple[str, ...]) -> list[Chain]:
    """Return the attacks that are written as ``NAME[:ARG]``, or several joined by ``+``.

    Raises:
        UsageError: an unknown name, an argument out of range, an attack named twice.
    """
    chains = [Chain(tuple(_parse(part) for part in text.split("+"))) for text in texts]
    for chain in chains:
        if chains.count(chain) > 1:
            raise UsageError(f"attack {chain} is asked for twice")
    return chains


def _parse(text: str) -> Attack:
    name, colon, argument = text.partition(":")
    kind = KINDS.get(name)
    if kind is None:
        near = difflib.get_close_matches(name, KINDS, n=1, cutoff=0.0)[0]
        raise UsageError(
            f"no attack is called {name!r}; did you mean {near!r}? There are: {', '.join(_forms())}"
        )
    if kind.argument is None:
        if colon:
            raise UsageError(f"attack {name} takes no argument, not {argument!r}")
        return Attack(name)
    return Attack(name, _number(name, kind.argument, argument) if colon else kind.argument.default)


def _number(name: str, kind: Argument, text: str) -> float:
    try:
        value = float(text)
        valid = kind.low <= value <= kind.high
        valid &= not kind.step or (value - kind.low) % kind.step == 0
    except ValueError:
        valid = False
    if not valid:
        numbers = {0: "a number", 1: "a whole number", 2: "an odd number"}[kind.step]
        raise UsageError(
            f"attack {name} wants {name}:{kind.name} with {numbers} from {kind.low:g} to "
            f"{kind.high:g}, not {text!r}"
        )
    return value


def _forms() -> list[str]:
    return [form(name) for name in KINDS]


def form(name: str) -> str:
    """Return how the attack is written."""
    argument = KINDS[name].argument
    return name if argument is None else f"{name}[:{argument.name}]"


_STAGES: dict[Stage, str] = {
    "image": "Published pictures",
    "survey": "Published pictures, all seen",
    "training": "Each epoch",
    "captions": "Captions",
    "corpus": "Corpus",
}


def help_text() -> str:
    """Return the attacks by stage, for the help of ``--attack``."""
    parts = []
    for stage, title in _STAGES.items():
        names = [f"{form(n)} ({kind.text})" for n, kind in KINDS.items() if kind.stage == stage]
        parts.append(f"{title}: {', '.join(names)}.")
    return " ".join(parts)


def markdown_table() -> str:
    """Return the attacks as a table, for the documentation."""
    lines = ["| attack | who | what is changed | what happens | needs |", "|---|---|---|---|---|"]
    for name, kind in KINDS.items():
        needs = ", ".join(_NEEDS[need] for need in kind.needs)
        changed = _STAGES[kind.stage].lower()
        lines.append(f"| `{form(name)}` | {kind.group} | {changed} | {kind.text} | {needs} |")
    return "\n".join(lines)


def group_of(label: str) -> Group:
    """Return who carries out a chain, ``A:ARG+B``: who of its attacks knows most.

    Raises:
        KeyError: an attack that is not known.
    """
    groups = list(GROUPS)
    names = [part.partition(":")[0] for part in label.split(",", maxsplit=1)[0].split("+")]
    return max((KINDS[name].group for name in names), key=groups.index)


GROUPS: dict[Group, str] = {
    "anyone": "Anyone's pipeline",
    "knows": "Someone who knows that the copy is protected",
    "reads": "Someone who reads this code",
}
"""Who attacks, from the one who knows least."""

_NEEDS: dict[Need, str] = {
    "clean": "the unprotected corpus",
    "trigger": "the trigger's length",
    "own": "clean pictures of the attacker's own",
}
