"""Cells: the pieces of work that a table is made of, named by all that decides their result."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ...data.plan import config_hash

Source = Literal["whole", "first", "second", "fit"]
"""Which shards: the whole corpus, the first or second half of its list, or those of --fit-input."""

Options = Mapping[str, Any]


@dataclass(frozen=True)
class Fit:
    """One surrogate; ``options`` are those of `fit`."""

    options: Options
    source: Source = "whole"

    @property
    def needs(self) -> "list[Cell]":
        """Cells that have to be finished before."""
        return []


@dataclass(frozen=True)
class Copy:
    """One protected copy; ``options`` are those of `protect`."""

    options: Options
    fit: Fit | None = None
    source: Source = "whole"

    @property
    def needs(self) -> "list[Cell]":
        """Cells that have to be finished before."""
        return [] if self.fit is None else [self.fit]


@dataclass(frozen=True)
class Victim:
    """One victim, or one a seed where all share what is costly.

    Attributes:
        row: the line of the table that it belongs to.
        options: those of `evaluate`.
        seeds: of its victims.
        copy: the protected copy that it is trained on; the clean corpus when None.
        share: per cent of the corpus that is protected.
        start: the victim whose weights it starts from.
        init: URL of the weights that it starts from.
    """

    row: str
    options: Options
    seeds: tuple[int, ...]
    copy: Copy | None = None
    share: float | None = None
    start: "Victim | None" = None
    init: str | None = None
    source: Source = "whole"
    keeps_weights: bool = False

    @property
    def needs(self) -> "list[Cell]":
        """Cells that have to be finished before."""
        return [cell for cell in (self.copy, self.start) if cell is not None]


Cell = Fit | Copy | Victim


@dataclass(frozen=True)
class Facts:
    """What a corpus is: digest of its shards' content, images and captions."""

    digest: str
    images: int
    captions: int


@dataclass(frozen=True)
class Inputs:
    """Where the corpora of a table are and what they hold.

    Attributes:
        urls: of the shards, by source; ``test`` too.
        facts: the same keys.
        versions: of this package, for the names of cells.
        init_sha256: of the checkpoint that ``--init`` names.
    """

    urls: Mapping[str, str]
    facts: Mapping[str, Facts]
    version: str
    common: Options = field(default_factory=dict)
    init_sha256: str | None = None

    def describe(self, cell: Cell) -> dict[str, Any]:
        """Return all that decides the result of ``cell``, as plain JSON values."""
        known: dict[str, Any] = {
            "kind": type(cell).__name__.lower(),
            "options": dict(cell.options),
            "data": self.facts[cell.source].digest,
            "version": self.version,
            "common": dict(self.common),
            "needs": [self.key(part) for part in cell.needs],
        }
        if isinstance(cell, Victim):
            known |= {
                "row": cell.row,
                "seeds": list(cell.seeds),
                "share": cell.share,
                "test": self.facts["test"].digest,
                "init": self.init_sha256 if cell.init is not None else None,
                "keeps_weights": cell.keeps_weights,
            }
        return known

    def key(self, cell: Cell) -> str:
        """Return the name of a cell: equal results have equal names, whatever table asks."""
        known = self.describe(cell)
        return f"{known['kind']}-{config_hash(known)[:16]}"


def with_needs(victims: list[Victim]) -> list[Cell]:
    """Return the victims in order, each behind what it needs, and every cell once."""
    found: list[Cell] = []

    def add(cell: Cell) -> None:
        for part in cell.needs:
            add(part)
        if cell not in found:
            found.append(cell)

    for victim in victims:
        add(victim)
    return found
