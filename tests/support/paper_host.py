"""`unlearnable paper` at a scale that takes seconds, in a process that tests can kill."""

from __future__ import annotations

import sys
from dataclasses import replace

from unlearnable.jobs.cli import main
from unlearnable.pipeline.experiments.paper import tables

SIZES = {"model": "tiny", "image_size": 32, "context_length": 24}


def shrink() -> None:
    """Make the cpu scale small enough for tests."""
    tables.SCALES["cpu"] = replace(
        tables.SCALES["cpu"],
        victim={**SIZES, "epochs": 1, "batch_size": 40},
        surrogate={**SIZES, "steps_per_round": 1, "batch_size": 40},
        rounds=1,
        clean_rounds=1,
        transfer_rounds=1,
        transfer={},
        finetune={"epochs": 1},
    )


if __name__ == "__main__":
    shrink()
    sys.exit(main(["paper", *sys.argv[1:]]))
