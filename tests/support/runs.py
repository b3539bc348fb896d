"""Runs of `protect` as processes of their own, and what they have written."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from unlearnable.pipeline.data.manifest import read_manifest

Digests = dict[str, str]
# A command of the program inside the test: its words to its exit code and all that it told.
Run = Callable[..., tuple[int, str]]
# Options of a run of `protect` that needs no surrogate.
NOISE = ("--method", "random", "--executor", "local")


def kept(output: Path) -> Path:
    """The folder of the record of an output."""
    return output.with_name(f"{output.name}-record")


def both(output: Path) -> dict[str, Path]:
    """Every file of an output and of its record by its path inside either; none is in both."""
    files = [(root, path) for root in (output, kept(output)) for path in root.rglob("*")]
    return {str(path.relative_to(root)): path for root, path in files if path.is_file()}


def place(output: Path, name: str) -> Path:
    """Where a file lies that an output or its record has."""
    return output / name if (output / name).exists() else kept(output) / name


def copy_both(output: Path, target: Path) -> Path:
    """Copy an output and its record."""
    shutil.copytree(kept(output), kept(target))
    return Path(shutil.copytree(output, target))


def digests(output: Path, *more: str) -> Digests:
    """The sha256 of every shard and manifest, and of ``more`` files of the output or its record."""
    files = [*output.glob("*.tar"), *kept(output).glob("manifest/*.parquet")]
    files += [place(output, name) for name in more]
    return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def differences(one: Path, other: Path) -> list[str]:
    """What differs between the manifests of two outputs: shard, key and columns."""
    found = []
    for path in sorted(kept(one).glob("manifest/*.parquet")):
        rows = [read_manifest(str(kept(o) / "manifest" / path.name))[0] for o in (one, other)]
        for row, same in zip(*map(list, rows), strict=False):
            before, after = asdict(same), asdict(row)
            pairs = [(name, before[name], value) for name, value in after.items()]
            changed = [f"{n}: {v!r} != {w!r}" for n, v, w in pairs if repr(v) != repr(w)]
            found += [f"{path.stem} {row.key} " + ", ".join(changed)] if changed else []
    return found


def options(source: Path, output: Path, surrogate: str, *more: str) -> list[str]:
    """The arguments of a run of `protect` that takes a moment a shard."""
    fixed = ["--surrogate", surrogate, "--batch-size", "6", "--steps", "1", "--device", "cpu"]
    return ["protect", str(source), str(output), *fixed, *more]


def command(source: Path, output: Path, surrogate: str, *more: str) -> list[str]:
    """The command line of `options`."""
    return [sys.executable, "-m", "unlearnable", *options(source, output, surrogate, *more)]


def random_options(source: Path, output: Path, *more: str) -> list[str]:
    """The arguments of a run that costs little: its noise comes from seeds, not from a model."""
    fixed = ["--method", "random", "--batch-size", "6", "--device", "cpu"]
    return ["protect", str(source), str(output), *fixed, *more]


def random_command(source: Path, output: Path, *more: str) -> list[str]:
    """The command line of `random_options`."""
    return [sys.executable, "-m", "unlearnable", *random_options(source, output, *more)]


def harmful(harm: dict[str, str], *arguments: str) -> list[str]:
    """The command line of a run whose workers do ``harm`` (see harmful_protect.py)."""
    program = Path(__file__).with_name("harmful_protect.py")
    return [sys.executable, str(program), json.dumps(harm), *arguments]


def descendants(root: int) -> dict[int, str]:
    """Command lines of the processes below ``root``, by number."""
    parents, names = {}, {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                stat = (folder / "stat").read_text()
                parents[int(folder.name)] = int(stat.rsplit(")", 1)[1].split()[1])
                line = (folder / "cmdline").read_bytes().replace(b"\0", b" ")
                names[int(folder.name)] = line.decode(errors="replace")
    below, size = {root}, 0
    while size != len(below):
        size = len(below)
        below |= {pid for pid, parent in parents.items() if parent in below}
    return {pid: names[pid] for pid in below - {root} if pid in names}


def kill(pids: list[int]) -> None:
    """End the processes of those numbers that are there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def committed(output: Path) -> int:
    """How many shards are committed."""
    found = kept(output).glob("_ledger/*.json")
    return sum(not path.name.endswith(".failed.json") for path in found)


def attempts(output: Path) -> dict[str, int]:
    """How many attempts each shard took, by its record."""
    paths = kept(output).glob("_ledger/*.json")
    return {path.stem: json.loads(path.read_text())["attempts"] for path in paths}


def await_that(true: Callable[[], bool], process: subprocess.Popen[str], what: str) -> None:
    """Wait until it is so, while the process runs.

    Raises:
        AssertionError: the process ended before, or it has taken minutes.
    """
    end = time.monotonic() + 300
    while not true():
        assert process.poll() is None, f"ended with {process.returncode} before {what}"
        assert time.monotonic() < end, f"waited in vain until {what}"
        time.sleep(0.05)


def events(output: Path) -> list[dict[str, Any]]:
    """The lines of the logs of all runs on an output, in the order of the runs."""
    paths = sorted(kept(output).glob("_log/*.jsonl"))
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


def returned(output: Path) -> list[str]:
    """Why shards went back without an attempt."""
    return [event["reason"] for event in events(output) if event["event"] == "shard_returned"]
