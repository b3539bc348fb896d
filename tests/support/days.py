"""What the tests of the DAGs share: input of several days, and the state of what a run wrote."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

UNLEARNABLE = Path(sys.executable).with_name("unlearnable")
FIT = [
    "--trigger-words", "2", "--vocabulary", "2", "--rounds", "1", "--steps-per-round", "1",
    "--texture", "0", "--batch-size", "8",
]  # fmt: skip
PROTECT = ["--executor", "local", "--device", "cpu"]
GOOD, BAD, *MORE = (f"2026-03-0{day}" for day in (1, 2, 3, 4))


def make_days(folder: Path, build_shards: Callable[..., Path]) -> Path:
    """Write two shards a day into ``folder``; the second one of the day `BAD` is cut."""
    for seed, day in enumerate((GOOD, BAD, *MORE)):
        build_shards(folder / day, shards=2, samples=8, size=32, seed=seed)
    whole = folder / BAD / "shard-001.tar"
    shutil.copy(whole, folder / "whole.tar")
    whole.write_bytes(whole.read_bytes()[:3000])
    return folder


def repair(folder: Path) -> None:
    shutil.copy(folder / "whole.tar", folder / BAD / "shard-001.tar")


def tree(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Time and bytes of every file; the log of each run is its own."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.parent.name != "_log"
    }


def published(copy: Path) -> dict[str, Any] | None:
    """Return what the mark of a copy says; None without one."""
    path = copy / "_PUBLISHED"
    found: dict[str, Any] | None = json.loads(path.read_text()) if path.exists() else None
    return found
