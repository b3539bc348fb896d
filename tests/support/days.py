"""What the tests of the DAGs share: their tool, input of several days, what a run wrote."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unlearnable.pipeline.data.captions import read_captions
from unlearnable.pipeline.data.images import image_member
from unlearnable.pipeline.data.shards import open_shard

UNLEARNABLE = Path(sys.executable).with_name("unlearnable")
FIT = [
    "--trigger-words", "2", "--vocabulary", "2", "--rounds", "1", "--steps-per-round", "1",
    "--batch-size", "8",
]  # fmt: skip
PROTECT = ["--executor", "local", "--device", "cpu"]
GOOD, BAD, *MORE = (f"2026-03-0{day}" for day in (1, 2, 3, 4))


@dataclass(frozen=True)
class Platform:
    """A tool that runs DAGs, in an environment of its own, and the places that its DAG works on.

    Attributes:
        program: the tool's command.
        home: its folder; what arrives is below `incoming`, what is made below `made`.
        variables: of its environment, beside those that the DAG reads.
    """

    program: Path
    home: Path
    variables: Mapping[str, str]

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "UNLEARNABLE_COMMAND": str(UNLEARNABLE),
            "UNLEARNABLE_SOURCE": str(self.home / "incoming"),
            "UNLEARNABLE_TARGET": str(self.made),
            "UNLEARNABLE_RETRY_SECONDS": "0",
            "OMP_NUM_THREADS": "1",
            **self.variables,
        }

    @property
    def made(self) -> Path:
        return self.home / "made"

    def run(self, *line: str, **variables: str) -> tuple[int, str]:
        """Run the tool's command; return its exit code and what it told."""
        done = subprocess.run(
            [self.program, *line],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            env=self.environment | variables,
            cwd=self.home,
        )
        return done.returncode, done.stdout


def make_days(folder: Path, build_shards: Callable[..., Path]) -> Path:
    """Write two shards a day into ``folder``; the second one of the day `BAD` is cut."""
    for seed, day in enumerate((GOOD, BAD, *MORE)):
        build_shards(folder / day, shards=2, samples=8, size=32, seed=seed)
    whole = folder / BAD / "shard-001.tar"
    shutil.copy(whole, folder / "whole.tar")
    whole.write_bytes(whole.read_bytes()[:3000])
    return folder


def unpack(shards: Path, folder: Path) -> Path:
    """Write the pictures of a day's shards into ``folder``, with a table of their captions."""
    folder.mkdir(parents=True)
    rows = ["image,caption"]
    for shard in sorted(shards.glob("*.tar")):
        with open_shard(str(shard)) as reader:
            for sample in reader:
                (folder / f"{sample.key}.png").write_bytes(image_member(sample).data)
                rows.append(f"{sample.key}.png,{read_captions(sample)[0]}")
    (folder / "captions.csv").write_text("\n".join(rows))
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


def contents(folder: Path) -> tuple[dict[str, bytes], dict[str, int]]:
    """Bytes of every file, and the times of the shards alone: what a run again must not change."""
    found = tree(folder)
    times = {name: time for name, (time, _) in found.items() if name.endswith(".tar")}
    return {name: data for name, (_, data) in found.items()}, times


def published(copy: Path) -> dict[str, Any] | None:
    """Return what the mark of a copy says; None without one."""
    path = copy / "_PUBLISHED"
    found: dict[str, Any] | None = json.loads(path.read_text()) if path.exists() else None
    return found
