"""What an evaluation compares: the corpora, and each of them again under each attack."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..data import storage
from ..data.manifest import manifest_url, read_manifest
from ..data.plan import resolve_input
from ..errors import UsageError, ViolationError
from .attacks.catalogue import Attack, parse_attacks
from .config import EvaluateConfig

_PAPER_EPSILON = 8


class Trigger(NamedTuple):
    """What an attacker knows of a published corpus: words of a trigger, budget in 8-bit levels."""

    words: int
    epsilon: int


@dataclass(frozen=True)
class Row:
    """One line of the table, before its victims are trained.

    Attributes:
        corpus: its name in ``--train``.
        url: its shards.
        attack: what is done to it; None for the corpus as it was published.
        clean_url: the unprotected corpus, where the attack reads it.
        trigger: where the attack has to know it.
        is_rest: the row is the unprotected part of a ``share``, alone.
    """

    corpus: str
    url: str
    attack: Attack | None = None
    clean_url: str | None = None
    trigger: Trigger | None = None
    is_rest: bool = False

    @property
    def attack_label(self) -> str | None:
        """The attack as tables and results call it."""
        if self.attack is None:
            return None
        return f"{self.attack}, the rest alone" if self.is_rest else str(self.attack)

    @property
    def label(self) -> str:
        """The row as tables call it."""
        return row_label(self.corpus, self.attack_label)

    def identity(self) -> dict[str, Any]:
        """Return all that decides the training data, for the record of a cell."""
        facts: dict[str, Any] = {"train": identity(self.url)}
        if self.attack is not None:
            facts["attack"] = self.attack_label
        if self.clean_url is not None:
            facts["clean"] = identity(self.clean_url)
        if self.trigger is not None:
            facts["trigger"] = self.trigger._asdict()
        return facts


def row_label(corpus: str, attack: str | None) -> str:
    """Return ``protected`` or ``protected | jpeg:75``."""
    return corpus if attack is None else f"{corpus} | {attack}"


def rows_of(config: EvaluateConfig) -> list[Row]:
    """Return the corpora as published, then all of them under the first attack, and so on.

    An attack that cannot change a corpus gives no row: replacing the captions of the unprotected
    corpus by its own, stripping triggers of no words.

    Raises:
        UsageError: a wrong corpus or attack, or one that lacks what it needs.
    """
    corpora = _corpora(config.train)
    rows = [Row(name, url) for name, url in corpora.items()]
    for attack in parse_attacks(config.attack):
        found = _attacked(attack, corpora, config.clean)
        if not found:
            raise UsageError(f"attack {attack} changes none of {', '.join(corpora)}")
        rows += found
    return rows


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


def _attacked(attack: Attack, corpora: dict[str, str], clean: str) -> list[Row]:
    kind = attack.kind
    if kind.needs_clean and clean not in corpora:
        raise UsageError(
            f"attack {attack} needs the unprotected corpus: add it to --train and let --clean tell "
            f"its name ({clean!r} is none of {', '.join(corpora)})"
        )
    triggers = _triggers(attack, corpora) if kind.needs_trigger else {}
    clean_url = corpora[clean] if kind.needs_clean else None
    rows = []
    for name, url in corpora.items():
        trigger = triggers.get(name)
        is_rest = attack.name == "share" and name == clean
        skip = attack.value == 100 if is_rest else kind.needs_clean and name == clean
        if not skip and (trigger is None or trigger.words > 0):
            rows.append(Row(name, url, attack, None if is_rest else clean_url, trigger, is_rest))
    return rows


def _triggers(attack: Attack, corpora: dict[str, str]) -> dict[str, Trigger]:
    """Return what is known of each corpus' triggers.

    A corpus without manifests, such as the unprotected one, is attacked with the trigger length of
    the others: an attacker does not know better.
    """
    told = {name: _published_trigger(url) for name, url in corpora.items()}
    lengths = {found.words for found in told.values() if found is not None and found.words}
    given = attack.value if attack.kind.argument == "K" else None
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
            remedy = f"; or write {attack}:K" if attack.kind.argument == "K" else ""
            raise UsageError(
                f"attack {attack}: {corpora[name]} has no manifest folder beside its shards that "
                f"tells how many words a trigger has; give the folder that protect wrote{remedy}"
            )
    return triggers


def _published_trigger(url: str) -> Trigger | None:
    """Return what the first shard's manifest says, None where there is none."""
    shard = resolve_input(url)[0]
    folder = shard.url[: -len(storage.base_name(shard.url))]
    try:
        _, metadata = read_manifest(manifest_url(folder, shard.name))
        return Trigger(int(metadata["trigger_words"]), int(metadata["epsilon"]))
    except FileNotFoundError:
        return None
    except (OSError, ViolationError, KeyError, ValueError) as error:
        raise UsageError(f"{url}: unreadable manifest of {shard.name} ({error})") from error
