"""What an evaluation compares: the corpora, and each of them again under each attack."""

import hashlib
from dataclasses import dataclass
from typing import Any

from ..data import storage
from ..data.manifest import manifest_url, read_manifest
from ..data.plan import resolve_input
from ..data.record import find_record
from ..errors import UsageError, ViolationError
from .attacks.catalogue import TRIGGER_LENGTH, Attack, Chain, parse_attacks
from .attacks.inputs import Trigger
from .config import EvaluateConfig

_PAPER_EPSILON = 8
# A share of all leaves no rest.
_WHOLE = 100


@dataclass(frozen=True)
class Step:
    """One attack of a chain, and the trigger where it has to know it."""

    attack: Attack
    trigger: Trigger | None = None


@dataclass(frozen=True)
class Comparison:
    """One line of the table, before its victims are trained.

    Attributes:
        corpus: its name in ``--train``.
        url: its shards.
        steps: what is done to it, in order; none for the corpus as it was published.
        clean_url: the unprotected corpus, where an attack reads it.
        is_rest: the line is the control that an attack leaves of the unprotected corpus.
    """

    corpus: str
    url: str
    steps: tuple[Step, ...] = ()
    clean_url: str | None = None
    is_rest: bool = False

    @property
    def attack_label(self) -> str | None:
        """The attacks as tables and results call them."""
        if not self.steps:
            return None
        label = "+".join(str(step.attack) for step in self.steps)
        return f"{label}, the rest alone" if self.is_rest else label

    @property
    def label(self) -> str:
        """The line as tables call it."""
        return row_label(self.corpus, self.attack_label)

    def identity(self) -> dict[str, Any]:
        """Return all that decides the training data, for the record of a victim."""
        facts: dict[str, Any] = {"train": identity(self.url)}
        if self.steps:
            facts["attack"] = self.attack_label
        if self.clean_url is not None:
            facts["clean"] = identity(self.clean_url)
        triggers = [step.trigger._asdict() for step in self.steps if step.trigger is not None]
        if triggers:
            facts["trigger"] = triggers[0] if len(triggers) == 1 else triggers
        return facts


def row_label(corpus: str, attack: str | None) -> str:
    """Return ``protected`` or ``protected | jpeg:75``."""
    return corpus if attack is None else f"{corpus} | {attack}"


def comparisons_of(config: EvaluateConfig) -> list[Comparison]:
    """Return the corpora as published, then all of them under the first attack, and so on.

    An attack that cannot change a corpus gives no line: replacing the captions of the unprotected
    corpus by its own, stripping triggers of no words.

    Raises:
        UsageError: a wrong corpus or attack, or one that lacks what it needs.
    """
    corpora = _corpora(config.train)
    found = [Comparison(name, url) for name, url in corpora.items()]
    for chain in parse_attacks(config.attack):
        attacked = _attacked(chain, corpora, config.clean)
        if not attacked:
            raise UsageError(f"attack {chain} changes none of {', '.join(corpora)}")
        found += attacked
    return found


def identity(url: str) -> str:
    """Return a digest of which shards ``url`` names now: names, sizes and change marks."""
    shards = [f"{shard.name} {shard.size} {shard.etag}" for shard in resolve_input(url)]
    return hashlib.sha256("\n".join(shards).encode()).hexdigest()


def _corpora(entries: tuple[str, ...]) -> dict[str, str]:
    """Return the URL of each corpus by name."""
    corpora: dict[str, str] = {}
    for entry in entries:
        name, equals, url = entry.partition("=")
        if not (name and equals and url):
            raise UsageError(f"train wants NAME=URL, e.g. clean=corpus/train, not {entry!r}")
        if name in corpora:
            raise UsageError(f"two corpora are called {name!r}; names must differ")
        corpora[name] = url
    return corpora


def _attacked(chain: Chain, corpora: dict[str, str], clean: str) -> list[Comparison]:
    if "clean" in chain.needs and clean not in corpora:
        raise UsageError(
            f"attack {chain} needs the unprotected corpus: add it to --train and let --clean tell "
            f"its name ({clean!r} is none of {', '.join(corpora)})"
        )
    triggers = [
        _triggers(attack, corpora) if "trigger" in attack.kind.needs else {}
        for attack in chain.attacks
    ]
    clean_url = corpora[clean] if "clean" in chain.needs else None
    found = []
    for name, url in corpora.items():
        is_rest = name == clean and any(attack.kind.has_rest for attack in chain.attacks)
        if is_rest and any(a.kind.has_rest and a.value == _WHOLE for a in chain.attacks):
            continue
        if name == clean and clean_url is not None and not is_rest:
            continue
        pairs = zip(chain.attacks, triggers, strict=True)
        steps = tuple(Step(attack, known.get(name)) for attack, known in pairs)
        if all(step.trigger is None or step.trigger.words > 0 for step in steps):
            found.append(Comparison(name, url, steps, None if is_rest else clean_url, is_rest))
    return found


def _triggers(attack: Attack, corpora: dict[str, str]) -> dict[str, Trigger]:
    """Return what is known of each corpus' triggers.

    A corpus without manifests, such as the unprotected one, is attacked with the trigger length of
    the others: an attacker does not know better.
    """
    told = {name: _published_trigger(url) for name, url in corpora.items()}
    lengths = {found.words for found in told.values() if found is not None and found.words}
    takes_length = attack.kind.argument == TRIGGER_LENGTH
    given = attack.value if takes_length else None
    triggers = {}
    for name, found in told.items():
        epsilon = found.epsilon if found is not None else _PAPER_EPSILON
        if given is not None:
            triggers[name] = Trigger(round(given), epsilon)
        elif found is not None:
            triggers[name] = found
        elif len(lengths) == 1:
            triggers[name] = Trigger(next(iter(lengths)), epsilon)
        else:
            remedy = f"; or write {attack}:K" if takes_length else ""
            raise UsageError(
                f"attack {attack}: {corpora[name]} has no record beside it that tells how many "
                f"words a trigger has; give the folder that protect wrote{remedy}"
            )
    return triggers


def _published_trigger(url: str) -> Trigger | None:
    """Return what the first shard's manifest says, None where there is none."""
    shard = resolve_input(url)[0]
    folder = shard.url[: -len(storage.base_name(shard.url))]
    try:
        _, metadata = read_manifest(manifest_url(find_record(folder), shard.name))
        return Trigger(int(metadata["trigger_words"]), int(metadata["epsilon"]))
    except (FileNotFoundError, UsageError):
        return None
    except (OSError, ViolationError, KeyError, ValueError) as error:
        raise UsageError(f"{url}: unreadable manifest of {shard.name} ({error})") from error
