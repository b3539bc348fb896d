"""Results of an evaluation: cells (one victim each), their file, their mean over seeds."""

import json
import statistics
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

from ..data import storage
from ..errors import UsageError
from .comparisons import row_label
from .probe import Probe
from .retrieval import Retrieval, Scores
from .victim import EpochPoint

FORMAT = 1
MEASURES = ("hit1", "hit5", "hit10", "medr")
DIRECTIONS = {"i2t": "image to text", "t2i": "text to image"}


@dataclass(frozen=True)
class VictimResult:
    """One trained victim.

    Attributes:
        name: of the corpus it was trained on.
        attack: what was done to that corpus before, None where it was left as published.
        copy: which of several copies of that name, made with different keys; all share a row.
        probe: what its image tower shows a linear probe; None in results of before it was measured.
        config: everything that decides the curve, identity of the data included.
        chance: what random embeddings give on its test set.
        samples: pairs it was trained on; ``skipped`` could not be read.
        test_samples: images of the test set; ``test_captions`` captions.
    """

    name: str
    seed: int
    config: dict[str, Any]
    curve: list[EpochPoint]
    chance: Retrieval
    samples: int
    skipped: int
    test_samples: int
    test_captions: int
    seconds: float
    device: str
    versions: dict[str, str]
    attack: str | None = None
    copy: int = 0
    probe: Probe | None = None

    @property
    def row(self) -> str:
        """The line of the table that it belongs to."""
        return row_label(self.name, self.attack)

    def last(self, direction: str) -> Scores:
        """Return the scores after the last epoch; ``direction`` is ``i2t`` or ``t2i``."""
        return direction_of(self.curve[-1].retrieval, direction)

    def best(self, direction: str) -> Scores:
        """Return the best tested epoch of one direction: highest Hit@10, then lowest median rank.

        Each direction has its own best epoch, as someone who stops at the best moment would.
        """
        scores = [direction_of(point.retrieval, direction) for point in self.curve]
        return max(scores, key=lambda s: (s.hit10, -s.medr))


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation over seeds (0 for one seed)."""

    mean: float
    deviation: float


@dataclass(frozen=True)
class Results:
    """The cells that one evaluation asked for, by row in the order asked, then seed."""

    cells: tuple[VictimResult, ...]

    @property
    def names(self) -> list[str]:
        """Rows in order: corpora, ``protected``, and attacked ones, ``protected | jpeg:75``."""
        return list(dict.fromkeys(cell.row for cell in self.cells))

    @property
    def chance(self) -> Retrieval:
        """What random embeddings give on the test set."""
        return self.cells[0].chance

    def of(self, name: str) -> list[VictimResult]:
        """Return the cells of one row."""
        return [cell for cell in self.cells if cell.row == name]

    def aggregate(self, name: str, epoch: str, direction: str) -> dict[str, Spread]:
        """Return each measure of a row over its seeds.

        Args:
            name: the row.
            epoch: ``last`` or ``best``.
            direction: ``i2t`` or ``t2i``.
        """
        pick: Callable[[VictimResult], Scores] = lambda cell: getattr(cell, epoch)(direction)  # noqa: E731
        return {
            measure: spread(getattr(pick(cell), measure) for cell in self.of(name))
            for measure in MEASURES
        }

    def probe(self, name: str) -> Spread | None:
        """Return a row's average precision of the probe, None where a cell has none."""
        found = [cell.probe for cell in self.of(name)]
        known = [one.precision for one in found if one is not None]
        return spread(known) if len(known) == len(found) else None

    def summary(self) -> list[dict[str, Any]]:
        """Return the aggregate of every row, for JSON."""
        return [
            {
                "name": name,
                "seeds": [cell.seed for cell in self.of(name)],
                "copies": len({cell.copy for cell in self.of(name)}),
                "probe": None if (found := self.probe(name)) is None else asdict(found),
            }
            | {
                epoch: {
                    direction: {
                        measure: asdict(value)
                        for measure, value in self.aggregate(name, epoch, direction).items()
                    }
                    for direction in DIRECTIONS
                }
                for epoch in ("last", "best")
            }
            for name in self.names
        ]


def spread(values: Iterable[float]) -> Spread:
    """Return mean and sample standard deviation."""
    found = list(values)
    deviation = statistics.stdev(found) if len(found) > 1 else 0.0
    return Spread(round(statistics.fmean(found), 6), round(deviation, 6))


def direction_of(retrieval: Retrieval, direction: str) -> Scores:
    """Return one direction of a retrieval."""
    return retrieval.i2t if direction == "i2t" else retrieval.t2i


def read_cells(url: str) -> list[VictimResult]:
    """Return the cells of a results file, none if there is no file.

    Raises:
        UsageError: the file is no results file of this version.
    """
    try:
        data = storage.read_bytes(url)
    except (FileNotFoundError, NotADirectoryError):
        return []
    try:
        content = json.loads(data)
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']}, this program reads {FORMAT}")
        return [_cell(entry) for entry in content["cells"]]
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{url} is not a file of results ({error}); choose another output"
        ) from error


def write_results(url: str, results: Results, others: Iterable[VictimResult]) -> None:
    """Write the results, keeping ``others``: cells of the file that this run did not ask for."""
    content = {
        "format": FORMAT,
        "units": "hit1, hit5, hit10, probe in per cent; medr in ranks; seconds",
        "summary": results.summary(),
        "chance": asdict(results.chance) if results.cells else None,
        "cells": [_entry(cell) for cell in (*results.cells, *others)],
    }
    storage.write_bytes(url, json.dumps(content, indent=1, allow_nan=False).encode())


def _entry(cell: VictimResult) -> dict[str, Any]:
    ends: dict[str, Any] = {
        epoch: {direction: asdict(getattr(cell, epoch)(direction)) for direction in DIRECTIONS}
        for epoch in ("last", "best")
    }
    return asdict(cell) | ends


def _cell(entry: dict[str, Any]) -> VictimResult:
    known = {key: value for key, value in entry.items() if key not in ("last", "best")}
    curve = [
        EpochPoint(
            point["epoch"],
            point["train_loss"],
            _retrieval(point["retrieval"]),
            point.get("accuracy"),
        )
        for point in entry["curve"]
    ]
    probe = entry.get("probe")
    read = {"curve": curve, "chance": _retrieval(entry["chance"])}
    return VictimResult(**known | read | {"probe": None if probe is None else Probe(**probe)})


def _retrieval(entry: dict[str, Any]) -> Retrieval:
    return Retrieval(Scores(**entry["i2t"]), Scores(**entry["t2i"]))
