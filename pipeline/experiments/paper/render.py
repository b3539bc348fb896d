"""A table in Markdown, as CSV and as a picture, with what its cells took."""

from dataclasses import dataclass, replace
from pathlib import Path

from ...data import storage
from ...evaluate.results import Results, spread
from ...evaluate.results_csv import victims_csv
from ...evaluate.tables import markdown_rows
from .cells import Victim, with_needs
from .chart import draw
from .config import PaperConfig
from .store import Record
from .work import Maker


@dataclass(frozen=True)
class Line:
    """A finished victim, or one a seed; ``file`` names the results that it was taken from."""

    victim: Victim
    results: Results
    file: str | None


def write_table(config: PaperConfig, maker: Maker, lines: list[Line]) -> Path:
    """Write ``paper-TABLE-SCALE.md``, ``.csv`` and ``.png``; return the path of the first.

    The Markdown goes last: where it stands, the other two are there.
    """
    name = f"paper-{config.table}-{config.scale}"
    results = _labelled(lines)
    base = maker.store.root / name
    storage.write_bytes(f"{base}.png", draw(config.table, results))
    victims = [
        replace(cell, name=line.victim.row, attack=None)
        for line in lines
        for cell in line.results.cells
    ]
    storage.write_bytes(f"{base}.csv", victims_csv(victims, name).encode())
    parts = [_head(config, results), *markdown_rows(results), "", *_accuracies(results)]
    text = "\n".join([*parts, *_costs(maker, lines)])
    path = base.with_name(f"{name}.md")
    storage.write_bytes(str(path), f"{text}\n".encode())
    return path


def _labelled(lines: list[Line]) -> Results:
    """Return all victims as one set of results; a row with one seed says so."""
    seeds: dict[str, int] = {}
    for line in lines:
        seeds[line.victim.row] = seeds.get(line.victim.row, 0) + len(line.results.cells)
    cells = []
    for line in lines:
        row = line.victim.row
        label = row if seeds[row] > 1 else f"{row} (one seed)"
        cells += [replace(cell, name=label, attack=None) for cell in line.results.cells]
    return Results(tuple(cells))


def _head(config: PaperConfig, results: Results) -> str:
    cell = results.cells[0]
    settings = cell.config
    devices = ", ".join(dict.fromkeys(cell.device for cell in results.cells))
    precisions = ", ".join(dict.fromkeys(str(c.config["precision"]) for c in results.cells))
    return (
        f"Table {config.table}, scale {config.scale}: retrieval on {cell.test_samples} clean "
        f"images with {cell.test_captions} captions; Hit@k in %, MedR in ranks, mean ± standard "
        f"deviation over seeds; best: each direction's best epoch by Hit@10. Batch "
        f"{settings['batch_size']}, {precisions} on {devices}. A row with one seed claims nothing."
        "\n"
    )


def _accuracies(results: Results) -> list[str]:
    """Return how many pictures are named right, where captions name identities."""
    rows = []
    for name in results.names:
        curves = [[point.accuracy for point in cell.curve] for cell in results.of(name)]
        known = [[value for value in curve if value is not None] for curve in curves]
        if not all(known):
            continue
        last, best = spread(curve[-1] for curve in known), spread(max(curve) for curve in known)
        shown = [
            f"{value.mean:.1f} ± {value.deviation:.1f}" if len(known) > 1 else f"{value.mean:.1f}"
            for value in (last, best)
        ]
        rows.append(f"| {name} | {' | '.join(shown)} |")
    if not rows:
        return []
    head = ["| corpus | named right, last epoch, % | best epoch, % |", "| --- | ---: | ---: |"]
    chance = results.chance.i2t.hit1
    return [*head, *rows, f"| chance | {chance:.1f} | {chance:.1f} |", ""]


def _costs(maker: Maker, lines: list[Line]) -> list[str]:
    """Return the cells as a table: what each took."""
    rows = [
        "| cell | seeds | seconds | passes a sample: image, text | device |",
        "|" + " --- |" * 5,
    ]
    for record in _records(maker, lines):
        passes = ", ".join(f"{record.passes.get(t, 0):.1f}" for t in ("image", "text"))
        seconds = f"{record.seconds:.0f}{' (resumed)' if record.resumed else ''}"
        seeds = ", ".join(map(str, record.seeds))
        rows.append(
            f"| {record.kind}: {record.title} | {seeds} | {seconds} | {passes} | {record.device} |"
        )
    taken = [line for line in lines if line.file is not None]
    for line in taken:
        cell = line.results.cells[0]
        rows.append(
            f"| victim: {line.victim.row}, from {line.file} | {cell.seed} | {cell.seconds:.0f} | "
            f"{cell.config['epochs']}.0, {cell.config['epochs']}.0 and tests | {cell.device} |"
        )
    return rows


def _records(maker: Maker, lines: list[Line]) -> list[Record]:
    made = with_needs([line.victim for line in lines if line.file is None])
    records = (maker.store.record(maker.inputs.key(cell)) for cell in made)
    return [record for record in records if record is not None]
