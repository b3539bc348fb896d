"""What an evaluation compares: the corpora, and each of them again under each attack."""

import hashlib
from dataclasses import dataclass
from typing import Any, NamedTuple

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
        own_url: clean pictures of the attacker's own, where an attack reads them.
        copy: which of several copies of one name, made with different keys; they share a row.
    """

    corpus: str
    url: str
    steps: tuple[Step, ...] = ()
    clean_url: str | None = None
    is_rest: bool = False
    own_url: str | None = None
    copy: int = 0

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
        for name, url in (("clean", self.clean_url), ("own", self.own_url)):
            if url is not None:
                facts[name] = identity(url)
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
    found = [Comparison(one.name, one.url, copy=one.copy) for one in corpora]
    for chain in parse_attacks(config.attack):
        attacked = _attacked(chain, corpora, config)
        if not attacked:
            raise UsageError(f"attack {chain} changes none of {_names(corpora)}")
        found += attacked
    return found


def identity(url: str) -> str:
    """Return a digest of which shards ``url`` names now: names, sizes and change marks."""
    shards = [f"{shard.name} {shard.size} {shard.etag}" for shard in resolve_input(url)]
    return hashlib.sha256("\n".join(shards).encode()).hexdigest()


class _Corpus(NamedTuple):
    """One entry of ``--train``; ``copy`` counts those of its name."""

    name: str
    url: str
    copy: int


def _corpora(entries: tuple[str, ...]) -> list[_Corpus]:
    """Read NAME=URL; a name that comes again is another copy of the same, with another key."""
    corpora: list[_Corpus] = []
    for entry in entries:
        name, equals, url = entry.partition("=")
        if not (name and equals and url):
            raise UsageError(f"train wants NAME=URL, e.g. clean=corpus/train, not {entry!r}")
        copies = [one.url for one in corpora if one.name == name]
        if url in copies:
            raise UsageError(f"{entry} stands in train twice; copies of one name must differ")
        corpora.append(_Corpus(name, url, len(copies)))
    return corpora


def _names(corpora: list[_Corpus]) -> str:
    return ", ".join(dict.fromkeys(one.name for one in corpora))


def _attacked(chain: Chain, corpora: list[_Corpus], config: EvaluateConfig) -> list[Comparison]:
    clean_url = _clean_url(chain, corpora, config.clean)
    triggers = [
        _triggers(attack, corpora) if "trigger" in attack.kind.needs else {}
        for attack in chain.attacks
    ]
    own = (config.own or config.test) if "own" in chain.needs else None
    found = []
    for one in corpora:
        is_rest = one.name == config.clean and any(a.kind.has_rest for a in chain.attacks)
        if is_rest and any(a.kind.has_rest and a.value == _WHOLE for a in chain.attacks):
            continue
        if one.name == config.clean and clean_url is not None and not is_rest:
            continue
        pairs = zip(chain.attacks, triggers, strict=True)
        steps = tuple(Step(attack, known.get(one)) for attack, known in pairs)
        if all(step.trigger is None or step.trigger.words > 0 for step in steps):
            known_url = None if is_rest else clean_url
            found.append(Comparison(one.name, one.url, steps, known_url, is_rest, own, one.copy))
    return found


def _clean_url(chain: Chain, corpora: list[_Corpus], clean: str) -> str | None:
    """Return where the unprotected corpus is, None where no attack of the chain reads it."""
    if "clean" not in chain.needs:
        return None
    urls = [one.url for one in corpora if one.name == clean]
    if len(urls) != 1:
        raise UsageError(
            f"attack {chain} needs the unprotected corpus: add it to --train and let --clean tell "
            f"its name ({clean!r} is {'several' if urls else 'none'} of {_names(corpora)})"
        )
    return urls[0]


def _triggers(attack: Attack, corpora: list[_Corpus]) -> dict[_Corpus, Trigger]:
    """Return what is known of each corpus' triggers.

    A corpus without manifests, such as the unprotected one, is attacked with the trigger length of
    the others: an attacker does not know better.
    """
    told = {one: _published_trigger(one.url) for one in corpora}
    lengths = {found.words for found in told.values() if found is not None and found.words}
    takes_length = attack.kind.argument == TRIGGER_LENGTH
    given = attack.value if takes_length else None
    triggers = {}
    for one, found in told.items():
        epsilon = found.epsilon if found is not None else _PAPER_EPSILON
        if given is not None:
            triggers[one] = Trigger(round(given), epsilon)
        elif found is not None:
            triggers[one] = found
        elif len(lengths) == 1:
            triggers[one] = Trigger(next(iter(lengths)), epsilon)
        else:
            remedy = f"; or write {attack}:K" if takes_length else ""
            raise UsageError(
                f"attack {attack}: {one.url} has no record beside it that tells how many "
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
