"""Train victims on published corpora, one a corpus and seed, and compare what they learned."""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import tempfile
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from multiprocessing import active_children, get_context
from typing import Any

import torch

from ..data.plan import resolve_input
from ..errors import ShardError, UsageError
from .config import EvaluateConfig
from .figures import plot_curves, require_matplotlib
from .pairs import Pairs, load_pairs
from .results import Cell, Results, read_cells, write_results
from .retrieval import chance
from .victim import EpochPoint, VictimConfig, train_victim

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Task:
    """One cell to compute: pure data, so that it can go to another process."""

    name: str
    victim: VictimConfig
    config: dict[str, Any]
    train: Pairs
    test: Pairs
    device: str
    threads: int


def evaluate(config: EvaluateConfig) -> Results:
    """Train and test every victim that the output file does not hold yet.

    The file is written anew, whole, after each victim; running the same command again after an
    interruption trains only what is missing. Cells of other corpora or seeds in it are kept.
    Each corpus is decoded once, into a temporary file of N * size * size * 3 bytes.

    Raises:
        UsageError: a wrong option, corpus or output file.
        ShardError: a shard that cannot be read, or a victim's process that died.
    """
    corpora = _check(config)
    wanted = _wanted(config, corpora)
    existing = {(cell.name, cell.seed): cell for cell in read_cells(config.output)}
    done = {
        key: existing[key]
        for key, (_, cell_config) in wanted.items()
        if key in existing and existing[key].config == cell_config
    }
    others = [cell for key, cell in existing.items() if key not in wanted]
    missing = [key for key in wanted if key not in done]
    if done:
        _log.info("%d of %d victims are in %s already", len(done), len(wanted), config.output)
    with tempfile.TemporaryDirectory(prefix="unlearnable-evaluate-") as folder:
        for cell in _run(config, _tasks(config, corpora, wanted, missing, folder)):
            done[cell.name, cell.seed] = cell
            write_results(config.output, _ordered(done, wanted), others)
    results = _ordered(done, wanted)
    write_results(config.output, results, others)
    if config.plot is not None:
        plot_curves(results, config.plot)
    return results


def _check(config: EvaluateConfig) -> dict[str, str]:
    """Return the URL of each corpus by name."""
    corpora: dict[str, str] = {}
    for entry in config.train:
        name, equals, url = entry.partition("=")
        if not (name and equals and url):
            raise UsageError(f"train wants NAME=URL, e.g. clean=corpus/train, not {entry!r}")
        if name in corpora:
            raise UsageError(f"two corpora are called {name!r}; names must differ")
        corpora[name] = url
    for option in ("epochs", "batch_size", "eval_every", "workers", "threads"):
        if getattr(config, option) < 1:
            raise UsageError(f"{option} must be at least 1, not {getattr(config, option)}")
    if not corpora or not config.seeds or len(set(config.seeds)) < len(config.seeds):
        raise UsageError("at least one corpus and one seed are needed, and no seed twice")
    if not config.lr > 0 or config.weight_decay < 0:
        raise UsageError("lr must be above 0 and weight_decay not below")
    if config.plot is not None:
        require_matplotlib()
    return corpora


def _wanted(
    config: EvaluateConfig, corpora: dict[str, str]
) -> dict[tuple[str, int], tuple[VictimConfig, dict[str, Any]]]:
    """Return the victim and the configuration of every cell, by corpus and seed."""
    test = _identity(config.test)
    reading = {"caption_fields": list(config.caption_fields), "max_pixels": config.max_pixels}
    wanted = {}
    for name, url in corpora.items():
        data = {"train": _identity(url), "test": test} | reading
        for seed in config.seeds:
            victim = _victim_config(config, seed)
            wanted[name, seed] = victim, asdict(victim) | data
    return wanted


def _victim_config(config: EvaluateConfig, seed: int) -> VictimConfig:
    precision: str = config.precision
    if precision == "auto":
        precision = "bf16" if _device(config).startswith("cuda") else "fp32"
    victim = VictimConfig(
        model=config.model,
        image_size=config.image_size,
        context_length=config.context_length,
        epochs=config.epochs,
        batch_size=config.batch_size,
        lr=config.lr,
        weight_decay=config.weight_decay,
        eval_every=config.eval_every,
        precision=precision,
        seed=seed,
    )
    spec = victim.spec()
    sizes = {"image_size": spec.image_size, "context_length": spec.context_length}
    return VictimConfig(**asdict(victim) | sizes)


def _device(config: EvaluateConfig) -> str:
    if config.device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=config.device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device {config.device!r} is not there ({error})") from error
    return config.device


def _identity(url: str) -> str:
    """Return a digest of which shards ``url`` names now: names, sizes and change marks."""
    shards = [f"{shard.name} {shard.size} {shard.etag}" for shard in resolve_input(url)]
    return hashlib.sha256("\n".join(shards).encode()).hexdigest()


def _tasks(
    config: EvaluateConfig,
    corpora: dict[str, str],
    wanted: dict[tuple[str, int], tuple[VictimConfig, dict[str, Any]]],
    missing: list[tuple[str, int]],
    folder: str,
) -> Iterator[_Task]:
    """Decode the test set and, one after the other, the corpora that have missing cells."""
    loaded: dict[str, Pairs] = {}

    def load(name: str, url: str, size: int) -> Pairs:
        if name not in loaded:
            _log.info("decoding %s at %d px", url, size)
            loaded[name] = load_pairs(
                url,
                size,
                os.path.join(folder, f"{len(loaded)}.raw"),
                fields=config.caption_fields,
                max_pixels=config.max_pixels,
            )
        return loaded[name]

    for name, seed in missing:
        victim, cell_config = wanted[name, seed]
        assert victim.image_size is not None, "resolved by _victim_config"
        yield _Task(
            name=name,
            victim=victim,
            config=cell_config,
            train=load(f"train {name}", corpora[name], victim.image_size),
            test=load("test", config.test, victim.image_size),
            device=_device(config),
            threads=config.threads,
        )


def _run(config: EvaluateConfig, tasks: Iterator[_Task]) -> Iterator[Cell]:
    """Compute tasks, in this process or in ``workers`` others, and yield cells as they finish."""
    if config.workers == 1:
        yield from map(_compute, tasks)
        return
    with _pool(config.workers) as pool:
        running: set[Future[Cell]] = set()
        for task in tasks:
            running.add(pool.submit(_compute, task))
            if len(running) >= config.workers:
                finished, running = wait(running, return_when=FIRST_COMPLETED)
                yield from _collect(finished)
        while running:
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            yield from _collect(finished)


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Start processes afresh: a fork would copy torch's threads in an unusable state."""
    level = _log.getEffectiveLevel()
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _start_worker, (level,))
    try:
        yield pool
    except BaseException:
        # A victim in training takes minutes to notice; who interrupts does not want to wait.
        for process in active_children():
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker(level: int) -> None:
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING)
    logging.getLogger(_log.name.partition(".")[0]).setLevel(level)


def _collect(finished: set[Future[Cell]]) -> Iterator[Cell]:
    for future in finished:
        try:
            yield future.result()
        except BrokenProcessPool as error:
            raise ShardError(
                "the process of a victim died (out of memory?); use fewer workers and run the same "
                "command again, finished victims are kept"
            ) from error


def _compute(task: _Task) -> Cell:
    label = f"{task.name} seed {task.victim.seed}"

    def progress(point: EpochPoint) -> None:
        i2t, t2i = point.retrieval.i2t, point.retrieval.t2i
        _log.info(
            "%s epoch %d of %d: loss %.3f, Hit@10 %.1f / %.1f",
            label,
            point.epoch,
            task.victim.epochs,
            float("nan") if point.train_loss is None else point.train_loss,
            i2t.hit10,
            t2i.hit10,
        )

    run = train_victim(
        task.train,
        task.test,
        task.victim,
        device=torch.device(task.device),
        threads=task.threads,
        progress=progress,
    )
    counts = [len(texts) for texts in task.test.captions]
    return Cell(
        name=task.name,
        seed=task.victim.seed,
        config=task.config,
        curve=run.curve,
        chance=chance(counts),
        samples=len(task.train),
        skipped=task.train.skipped,
        test_samples=len(counts),
        test_captions=sum(counts),
        seconds=round(run.seconds, 1),
        device=run.device,
        versions=_versions(),
    )


def _versions() -> dict[str, str]:
    packages = {name: version(name) for name in ("unlearnable", "torch", "open_clip_torch")}
    return packages | {"python": platform.python_version()}


def _ordered(done: dict[tuple[str, int], Cell], wanted: dict[tuple[str, int], Any]) -> Results:
    return Results(tuple(done[key] for key in wanted if key in done))
