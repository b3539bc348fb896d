"""``unlearnable demo``: the whole way on emoji pictures, small enough for 2 CPU cores."""

import json
import shlex
import time
from dataclasses import dataclass
from pathlib import Path

from .. import __version__
from ..pipeline.errors import UsageError

_IDENTITY = "demo.json"


@dataclass(frozen=True)
class _Step:
    """One command: what it is for, minutes on 2 cores, and the file that tells that it is done."""

    title: str
    minutes: float
    command: tuple[str, ...]
    done: Path | None = None


def demo(*, output: str = "demo", seed: int = 0) -> int:
    """Protect emoji pictures, train models on them and show what those learn.

    Runs the commands one after the other, each shown as one would type it, and goes on where it
    stopped. Ends with a table, results.json, retrieval.png and before-after.png.

    Args:
        output: Local folder for everything that is made.
        seed: Seed of every random choice.
    """
    folder = Path(output)
    _claim(folder, seed)
    steps = _steps(folder, str(seed))
    print(f"about {sum(step.minutes for step in steps):.0f} minutes on 2 cores, into {folder}/")
    for number, step in enumerate(steps, 1):
        code = _run(step, f"[{number}/{len(steps)}] {step.title}")
        if code:
            return code
    _save_picture(folder)
    print(f"\n{folder}/results.json  {folder}/retrieval.png  {folder}/before-after.png")
    return 0


def _run(step: _Step, label: str) -> int:
    from .cli import main

    if step.done is not None and step.done.exists():
        print(f"\n{label}: done before", flush=True)
        return 0
    print(f"\n{label} (about {step.minutes:g} min)", flush=True)
    print(f"$ unlearnable {shlex.join(step.command)}", flush=True)
    started = time.monotonic()
    code = main(step.command)
    if code == 0:
        print(f"{time.monotonic() - started:.0f} s", flush=True)
    return code


def _claim(folder: Path, seed: int) -> None:
    """Refuse a folder in which another seed or version, or something else, has left its files."""
    mine = {"seed": seed, "version": __version__}
    path = folder / _IDENTITY
    if path.exists():
        theirs = json.loads(path.read_text())
        if theirs != mine:
            raise UsageError(f"{folder} holds a demo of {theirs}, not of {mine}; choose another")
        return
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is not empty and holds no demo; choose another --output")
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(mine))


def _steps(folder: Path, seed: str) -> list[_Step]:
    shards, surrogate = folder / "shards", folder / "surrogate"
    protected, control = folder / "protected", folder / "random"
    train, test = _corpus(folder)
    seeded = ("--seed", seed)
    ray = ("--executor", "ray", "--workers", "2", *seeded)
    draw = ("data", "openmoji", str(shards), *seeded)
    fit = ("fit", train, "--output", str(surrogate), *seeded)
    protect = ("protect", train, str(protected), "--surrogate", str(surrogate), *ray)
    verify = ("verify", str(protected), "--against", train)
    noise = ("protect", train, str(control), "--method", "random", *ray)
    corpora = ("--train", f"clean={train}", f"random={control}", f"protected={protected}")
    results = ("--output", f"{folder}/results.json", "--plot", f"{folder}/retrieval.png")
    trained = ("--seeds", seed, "--workers", "2")
    evaluate = ("evaluate", *corpora, "--test", test, *results, *trained)
    return [
        _Step("draw OpenMoji pictures into shards", 0.5, draw, shards),
        _Step("fit a surrogate", 2, fit, surrogate / "surrogate.json"),
        _Step("protect on 2 Ray actors", 1, protect, protected / "_SUCCESS"),
        _Step("verify from the published files", 0.2, verify),
        _Step("the control: random noise of the same size", 0.3, noise, control / "_SUCCESS"),
        _Step("train a model on each, test it on clean pictures", 5, evaluate),
    ]


def _corpus(folder: Path) -> tuple[str, str]:
    return f"{folder}/shards/train-*.tar", f"{folder}/shards/test-*.tar"


def _save_picture(folder: Path) -> None:
    from ..pipeline.report.figures import contact_sheet

    train, _ = _corpus(folder)
    contact_sheet(train, str(folder / "protected"), str(folder / "before-after.png"))
