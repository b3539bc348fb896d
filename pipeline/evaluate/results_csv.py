"""Victims as one tidy CSV file: one line a victim, with what a table of results needs.

A line holds the settings of the victim, the scores of its last epoch and of each direction's best
epoch, and chance. The curve between them is not kept.
"""

import csv
import io
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

from ..data import storage
from ..errors import UsageError
from .probe import Probe
from .results import DIRECTIONS, MEASURES, VictimResult, direction_of, read_cells
from .retrieval import Retrieval, Scores
from .victim import EpochPoint

_Parse = Callable[[str], Any]
_SETTINGS: dict[str, _Parse] = {
    "model": str,
    "image_size": int,
    "context_length": int,
    "epochs": int,
    "batch_size": int,
    "lr": float,
    "weight_decay": float,
    "eval_every": int,
    "precision": str,
    "init_sha256": str,
    "identities": lambda text: text == "True",
}
_FACTS: dict[str, _Parse] = {
    "samples": int,
    "skipped": int,
    "test_samples": int,
    "test_captions": int,
    "seconds": float,
}
_ENDS = ("best", "last", "chance")
_ACCURACIES = ("best_accuracy", "last_accuracy")
# Version 0.1 wrote files without these columns.
_LATER = ("copy", "captions", "probe", "probe_chance", "probe_words")
COLUMNS = (
    *("corpus", "attack", "seed", "command", "device", "version", "torch"),
    *_SETTINGS,
    *_FACTS,
    *(f"{end}_{way}_{measure}" for end in _ENDS for way in DIRECTIONS for measure in MEASURES),
    *_ACCURACIES,
    *_LATER,
)


def victims_csv(cells: Iterable[VictimResult], command: str) -> str:
    """Return the victims as CSV with a heading.

    Args:
        cells: the victims.
        command: name of the command that made them; ``docs/results/commands.csv`` lists ours.
    """
    return _text([_line(cell, command) for cell in cells])


def read_victims(url: str, command: str | None = None) -> list[VictimResult]:
    """Return the victims of a CSV file, those of one ``command`` when it is given.

    The curve of a victim has two points: each direction's best epoch, numbered 0 because the two
    directions may have it at different epochs, and the last epoch. Their training loss is None.

    Raises:
        UsageError: there is no such file, or it is no file of victims.
    """
    try:
        lines = _read(url)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UsageError(f"{url} does not exist; give a CSV file of victims") from error
    wanted = [line for line in lines if command is None or line["command"] == command]
    try:
        return [_cell(line) for line in wanted]
    except ValueError as error:
        raise UsageError(f"{url} is not a CSV file of victims ({error})") from error


def append(results_url: str, csv_url: str, command: str) -> None:
    """Add the victims of a results file of `evaluate` to a CSV file, new or not.

    Victims of the same command, corpus, copy, attack and seed that stand there are replaced.

    Raises:
        UsageError: one of the files holds something else.
    """
    added = [_line(cell, command) for cell in read_cells(results_url)]
    if not added:
        raise UsageError(f"{results_url} holds no victims; give a file that evaluate wrote")
    try:
        before = _read(csv_url)
    except FileNotFoundError:
        before = []
    named = (*COLUMNS[:4], "copy")
    merged = {tuple(line[name] for name in named): line for line in (*before, *added)}
    storage.write_bytes(csv_url, _text(merged.values()).encode())


def _text(lines: Iterable[dict[str, str]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _read(url: str) -> list[dict[str, str]]:
    reader = csv.DictReader(io.StringIO(storage.read_bytes(url).decode(errors="replace")))
    later = dict.fromkeys(_LATER, "")
    lines = [later | line for line in reader]
    needed = [name for name in COLUMNS if name not in _LATER]
    missing = [name for name in needed if name not in (reader.fieldnames or ())]
    if missing:
        raise UsageError(f"{url} is not a CSV file of victims: it has no column {missing[0]}")
    return lines


def _line(cell: VictimResult, command: str) -> dict[str, str]:
    known: dict[str, Any] = {
        "corpus": cell.name,
        "attack": cell.attack,
        "seed": cell.seed,
        "command": command,
        "device": cell.device,
        "version": cell.versions.get("unlearnable"),
        "torch": cell.versions.get("torch"),
    }
    known |= {name: cell.config.get(name) for name in _SETTINGS}
    known |= {name: getattr(cell, name) for name in _FACTS}
    for way in DIRECTIONS:
        ends = (cell.best(way), cell.last(way), direction_of(cell.chance, way))
        for end, scores in zip(_ENDS, ends, strict=True):
            known |= {f"{end}_{way}_{measure}": value for measure, value in asdict(scores).items()}
    known |= {"copy": cell.copy or None, "captions": cell.config.get("captions")}
    if cell.probe is not None:
        known |= {
            "probe": cell.probe.precision,
            "probe_chance": cell.probe.chance,
            "probe_words": cell.probe.words,
        }
    named = [point.accuracy for point in cell.curve if point.accuracy is not None]
    if named:
        known |= dict(zip(_ACCURACIES, (max(named), named[-1]), strict=True))
    return {name: "" if value is None else str(value) for name, value in known.items()}


def _cell(line: dict[str, str]) -> VictimResult:
    parsed = {name: parse(line[name]) for name, parse in _SETTINGS.items() if line[name]}
    best, last, chance = (
        Retrieval(
            *(Scores(*(float(line[f"{end}_{way}_{m}"]) for m in MEASURES)) for way in DIRECTIONS)
        )
        for end in _ENDS
    )
    named = [float(text) if text else None for text in (line[name] for name in _ACCURACIES)]
    probe = None
    if line["probe"]:
        found, guessed = (float(line[name]) for name in ("probe", "probe_chance"))
        probe = Probe(found, guessed, int(line["probe_words"]))
    if line["captions"]:
        parsed["captions"] = int(line["captions"])
    return VictimResult(
        name=line["corpus"],
        attack=line["attack"] or None,
        copy=int(line["copy"] or 0),
        probe=probe,
        seed=int(line["seed"]),
        config=parsed | {"seed": int(line["seed"])},
        curve=[
            EpochPoint(0, None, best, named[0]),
            EpochPoint(parsed["epochs"], None, last, named[1]),
        ],
        chance=chance,
        device=line["device"],
        versions={"unlearnable": line["version"], "torch": line["torch"]},
        **{name: parse(line[name]) for name, parse in _FACTS.items()},
    )
