"""What `paper` can be told: the dataclass that the command line is made from.

Every field's docstring is the help text of its option.
"""

from dataclasses import dataclass
from typing import Literal

from ...execution.options import DeviceOption
from ...method.config import Precision

Table = Literal["main", "ablation", "transfer", "finetune", "faces"]
ScaleName = Literal["cpu", "gpu"]


@dataclass(frozen=True, kw_only=True)
class PaperConfig(DeviceOption):
    """Run one table of the MEM paper, cell by cell."""

    table: Table
    """main (methods), ablation, transfer (between models), finetune (pretrained starts), faces."""
    scale: ScaleName = "cpu"
    """cpu: the photo bench (tiny models, 64 px, 8 epochs); gpu: the paper's (RN50, 224 px, 32)."""
    input: str
    """Shards that are protected and trained on."""
    test: str
    """Clean shards that every victim is tested on."""
    output: str
    """Local folder for the table and for its cells; finished cells in it are not made again."""
    fit_input: str | None = None
    """Shards to fit the default surrogate of `faces` on, if names alone hold too few words."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """One victim a row and seed."""
    only: tuple[str, ...] = ()
    """Rows to make, by name; every row when left out. The table shows all rows that are there."""
    measured: tuple[str, ...] = ()
    """Results of `evaluate`, or tables' CSV: victims of equal row, seed and settings are taken."""
    init: str | None = None
    """Weights of the model for fine-tuning rows that start from a checkpoint (finetune, faces)."""
    precision: Precision = "auto"
    """Arithmetic of the victims: auto is bf16 on a GPU and fp32 on a CPU."""
    threads: int = 1
    """Threads of tensor operations."""
    dry_run: bool = False
    """List the cells with their expected duration, and make none."""
