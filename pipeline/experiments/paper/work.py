"""Making one cell, by the same calls as the commands `fit`, `protect` and `evaluate`."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ...data import storage
from ...errors import ShardError
from ...evaluate.attacks.catalogue import Attack
from ...evaluate.comparisons import Comparison, Step
from ...evaluate.config import EvaluateConfig
from ...evaluate.evaluate import package_versions, train_lines
from ...evaluate.results import Results, read_cells
from ...evaluate.towers import FROZEN
from ...execution.artifact import DESCRIPTION, load_surrogate
from ...execution.config import FitRunConfig, ProtectConfig
from ...execution.fit import fit
from ...execution.protect import protect
from ...execution.status import run_status
from ...method.passes import Passes
from .cells import Cell, Copy, Fit, Inputs, Victim
from .config import PaperConfig
from .store import Record, Store

SURROGATE, PROTECTED, RESULTS, WEIGHTS = "surrogate", "protected", "results.json", "weights"


@dataclass(frozen=True)
class Maker:
    """Makes cells, each in its folder."""

    config: PaperConfig
    inputs: Inputs
    store: Store

    def make(self, cell: Cell) -> Record:
        """Make a cell, or go on with it, and write its record last."""
        key = self.inputs.key(cell)
        folder = self.store.folder(key)
        resumed = any(not path.name.startswith(".") for path in folder.iterdir())
        started = time.monotonic()
        if isinstance(cell, Fit):
            passes = self._fit(cell, folder)
        elif isinstance(cell, Copy):
            passes = self._protect(cell, folder)
        else:
            passes = self._train(cell, folder)
        record = Record(
            key=key,
            kind=type(cell).__name__.lower(),
            title=title_of(cell),
            seeds=list(cell.seeds) if isinstance(cell, Victim) else [0],
            seconds=round(time.monotonic() - started, 1),
            resumed=resumed,
            passes=passes,
            device=_device_name(self.config.device),
            versions=package_versions(),
            settings=self.inputs.describe(cell),
        )
        self.store.finish(record)
        return record

    def results(self, victim: Victim) -> Results:
        """Return what the victims of a finished cell learned."""
        path = self.store.folder(self.inputs.key(victim)) / RESULTS
        return Results(tuple(read_cells(str(path))))

    def _fit(self, cell: Fit, folder: Path) -> dict[str, float]:
        output = str(folder / SURROGATE)
        if not storage.exists(storage.join(output, DESCRIPTION)):
            fit(
                FitRunConfig(
                    self.inputs.urls[cell.source],
                    output=output,
                    device=self.config.device,
                    torch_threads=self.config.threads,
                    **cell.options,
                )
            )
        meta = load_surrogate(output)[0].meta
        return _weighed({kind: n / meta["samples"] for kind, n in meta["passes"].items()})

    def _protect(self, cell: Copy, folder: Path) -> dict[str, float]:
        output = str(folder / PROTECTED)
        summary = protect(
            ProtectConfig(
                self.inputs.urls[cell.source],
                output,
                surrogate=None if cell.fit is None else str(self._of(cell.fit) / SURROGATE),
                executor="local",
                device=self.config.device,
                torch_threads=self.config.threads,
                **cell.options,
            )
        )
        if summary.exit_code:
            raise ShardError(f"{output}: {summary}")
        return _weighed(run_status(output).passes)

    def _train(self, cell: Victim, folder: Path) -> dict[str, float]:
        row = self._row(cell)
        options: dict[str, Any] = dict(cell.options)
        if cell.start is not None:
            options["init"] = self._weights(cell.start)
        if cell.init is not None:
            options["init"] = cell.init
        if cell.keeps_weights:
            options["weights"] = str(folder / WEIGHTS)
        config = EvaluateConfig(
            train=(f"clean={self.inputs.urls[cell.source]}",),
            test=self.inputs.urls["test"],
            output=str(folder / RESULTS),
            seeds=cell.seeds,
            device=self.config.device,
            threads=self.config.threads,
            **options,
        )
        train_lines(config, [row])
        facts, test = self.inputs.facts[cell.source], self.inputs.facts["test"]
        tests = len(self.results(cell).cells[0].curve) / max(1, facts.images)
        if config.model == FROZEN:
            tests, steps = 1 / max(1, facts.images), 0
            read = {"image_forward": 1, "text_forward": facts.captions / max(1, facts.images)}
        else:
            steps = config.epochs
            read = {"image_forward": steps, "text_forward": steps}
        read["image_forward"] += tests * test.images
        read["text_forward"] += tests * test.captions
        return _weighed({**read, "image_backward": steps, "text_backward": steps})

    def _row(self, cell: Victim) -> Comparison:
        clean = self.inputs.urls[cell.source]
        url = clean if cell.copy is None else str(self._of(cell.copy) / PROTECTED)
        if cell.share is None:
            return Comparison(cell.row, url)
        step = Step(Attack("share", cell.share))
        return Comparison(cell.row, url, (step,), clean_url=clean)

    def _of(self, cell: Cell) -> Path:
        return self.store.folder(self.inputs.key(cell))

    def _weights(self, start: Victim) -> str:
        """Return the file of the weights that a finished start has left."""
        found = sorted((self._of(start) / WEIGHTS).glob("*.safetensors"))
        assert len(found) == 1, "a start has one seed and keeps its weights"
        return storage.join(str(found[0].parent), found[0].name)


def title_of(cell: Cell) -> str:
    """Return how lists and logs call a cell."""
    if isinstance(cell, Victim):
        return f"{cell.row}, seed {', '.join(map(str, cell.seeds))}"
    told = ", ".join(f"{name} {value}" for name, value in cell.options.items())
    if isinstance(cell, Copy):
        given = title_of(cell.fit) if cell.fit is not None else ""
        return ", ".join(filter(None, [told, given]))
    return told


def _weighed(passes: dict[str, float]) -> dict[str, float]:
    return {
        tower: round(
            Passes.weigh(passes.get(f"{tower}_forward", 0), passes.get(f"{tower}_backward", 0)), 2
        )
        for tower in ("image", "text")
    }


def _device_name(device: str) -> str:
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device
