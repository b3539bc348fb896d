"""`paper`: the cells of a table, one after the other, and the table of those that are finished."""

import logging
import time
from dataclasses import dataclass, replace
from pathlib import Path

from ...errors import UsageError
from ...evaluate.results import Results, read_cells
from ...evaluate.results_csv import read_victims
from ...execution.checks import choose_device
from ...execution.driver.stop import stop_on_signals
from ...plotting import require_matplotlib
from . import tables
from .cells import Cell, Victim, with_needs
from .config import PaperConfig
from .inputs import find_inputs
from .render import Line, write_table
from .store import Store
from .work import Maker, title_of

log = logging.getLogger(__name__)

# How often a process looks whether another one, which works on the same folder, is done.
_POLL_SECONDS = 2.0


@dataclass(frozen=True)
class PaperSummary:
    """What a call did; ``table`` is the Markdown file, None where no victim is finished."""

    made: int
    kept: int
    missing: int
    table: Path | None

    def __str__(self) -> str:
        state = f"{self.made} cells made, {self.kept} were there, {self.missing} are missing"
        return f"{self.table}: {state}" if self.table is not None else state


def paper(config: PaperConfig) -> PaperSummary:
    """Make the cells of a table that are not finished, then write the table.

    Any number of processes may run the same request at once: each takes the next cell that nobody
    works on.

    Raises:
        UsageError: the request cannot be carried out as written.
        Interrupted: SIGINT or SIGTERM; the same call goes on.
    """
    config = _resolved(config)
    every = tables.victims_of(config)
    wanted = tables.wanted(config, every)
    store = Store(config.output)
    inputs = find_inputs(config, store.root / "corpora.json")
    maker = Maker(config, inputs, store)
    measured = _measured(config, wanted)
    cells = with_needs([v for v in wanted if (v.row, v.seeds[0]) not in measured])
    todo = [cell for cell in cells if store.record(inputs.key(cell)) is None]
    _tell(config, cells, todo)
    if config.dry_run:
        return PaperSummary(0, len(cells) - len(todo), len(todo), None)
    with stop_on_signals():
        made = _make(maker, todo)
    lines = _finished(maker, every, _measured(config, every))
    table = write_table(config, maker, lines) if lines else None
    return PaperSummary(made, len(cells) - len(todo), 0, table)


def _resolved(config: PaperConfig) -> PaperConfig:
    """Fill in the device and the precision, which are part of what a cell is."""
    if not config.seeds or len(set(config.seeds)) < len(config.seeds):
        raise UsageError("at least one seed is needed, and none twice")
    if config.threads < 1:
        raise UsageError(f"threads is {config.threads}; it must be at least 1")
    require_matplotlib()
    device = choose_device(config.device)
    precision = config.precision
    if precision == "auto":
        precision = "bf16" if device.startswith("cuda") else "fp32"
    return replace(config, device=device, precision=precision)


def _tell(config: PaperConfig, cells: list[Cell], todo: list[Cell]) -> None:
    """Say what is ahead."""
    log.info(
        "table %s, scale %s: %d of %d cells are finished",
        config.table,
        config.scale,
        len(cells) - len(todo),
        len(cells),
    )
    if config.dry_run:
        for cell in todo:
            log.info("%s: %s", type(cell).__name__.lower(), title_of(cell))


def _make(maker: Maker, todo: list[Cell]) -> int:
    """Make cells in order, passing over those that another process works on; return how many."""
    left, made = list(todo), 0
    total = len(left)
    while left:
        progress = False
        for cell in list(left):
            key = maker.inputs.key(cell)
            if maker.store.record(key) is not None:
                left.remove(cell)
                continue
            if any(maker.store.record(maker.inputs.key(part)) is None for part in cell.needs):
                continue
            with maker.store.claim(key) as mine:
                if not mine or maker.store.record(key) is not None:
                    continue
                place, kind = total - len(left) + 1, type(cell).__name__.lower()
                log.info("[%d/%d] %s: %s", place, total, kind, title_of(cell))
                record = maker.make(cell)
            log.info("[%d/%d] took %s", place, total, _duration(record.seconds))
            left.remove(cell)
            made, progress = made + 1, True
        if left and not progress:
            time.sleep(_POLL_SECONDS)
    return made


def _measured(config: PaperConfig, victims: list[Victim]) -> dict[tuple[str, int], Line]:
    """Return the victims of result files that stand for victims of this table."""
    found: dict[tuple[str, int], Line] = {}
    asked = {(victim.row, seed): victim for victim in victims for seed in victim.seeds}
    for url in config.measured:
        cells = read_victims(url) if url.endswith(".csv") else read_cells(url)
        if not cells:
            raise UsageError(f"measured {url} holds no victims; give a file that evaluate wrote")
        for cell in cells:
            victim = asked.get((cell.row, cell.seed))
            if victim is None or victim.init is not None or victim.start is not None:
                continue
            if all(cell.config.get(name) == value for name, value in victim.options.items()):
                found[cell.row, cell.seed] = Line(victim, Results((cell,)), Path(url).name)
    return found


def _finished(
    maker: Maker, victims: list[Victim], measured: dict[tuple[str, int], Line]
) -> list[Line]:
    """Return the lines of all finished victims, in the order of the table."""
    lines = []
    for victim in victims:
        if maker.store.record(maker.inputs.key(victim)) is not None:
            lines.append(Line(victim, maker.results(victim), None))
        elif (victim.row, victim.seeds[0]) in measured:
            lines.append(measured[victim.row, victim.seeds[0]])
    return lines


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
