"""Train victims on published corpora, one a corpus and seed, and compare what they learned."""

import logging
import platform
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from multiprocessing import active_children, get_context
from typing import Any

import torch

from ..data import storage
from ..errors import ShardError, UsageError
from ..execution.checks import choose_device
from ..plotting import require_matplotlib
from .checkpoints import checkpoint_digest
from .comparisons import Comparison, comparisons_of, identity
from .config import EvaluateConfig
from .corpora import Corpora, augmentation
from .figures import plot_attacks, plot_curves
from .pairs import Pairs
from .results import Results, VictimResult, read_cells, write_results
from .retrieval import chance
from .victim import EpochPoint, VictimConfig, train_victim

_log = logging.getLogger(__name__)


_Key = tuple[str, int, int]
"""Row, copy and seed of a victim."""


@dataclass(frozen=True)
class _Wanted:
    """One cell that was asked for; ``config`` is all that decides its curve."""

    line: Comparison
    victim: VictimConfig
    config: dict[str, Any]


@dataclass(frozen=True)
class _Task:
    """One cell to compute: pure data, so that it can go to another process."""

    wanted: _Wanted
    train: Pairs
    test: Pairs
    device: str
    threads: int
    weights: str | None


def evaluate(config: EvaluateConfig) -> Results:
    """Train and test every victim that the output file does not hold yet.

    The file is written anew, whole, after each victim; running the same command again after an
    interruption trains only what is missing. Cells of other corpora, attacks or seeds in it are
    kept. Each corpus is decoded once, and once more for each attack on pictures, into a temporary
    file of N * size * size * 3 bytes; those of attacks are deleted as soon as they were used.

    Raises:
        UsageError: a wrong option, corpus, attack or output file.
        ShardError: a shard that cannot be read, or a victim's process that died.
    """
    check(config)
    return train_lines(config, comparisons_of(config))


def train_lines(config: EvaluateConfig, lines: list[Comparison]) -> Results:
    """Train and test every victim of these lines that the output file does not hold yet."""
    wanted = _wanted(config, lines)
    existing = {(cell.row, cell.copy, cell.seed): cell for cell in read_cells(config.output)}
    done = {
        key: existing[key]
        for key, cell in wanted.items()
        if key in existing and existing[key].config == cell.config and _is_kept(config, cell)
    }
    others = [cell for key, cell in existing.items() if key not in wanted]
    missing = {key: cell for key, cell in wanted.items() if key not in done}
    if done:
        _log.info("%d of %d victims are in %s already", len(done), len(wanted), config.output)
    for cell in _trained(config, missing):
        done[cell.row, cell.copy, cell.seed] = cell
        write_results(config.output, _ordered(done, wanted), others)
    results = _ordered(done, wanted)
    write_results(config.output, results, others)
    if config.plot is not None:
        published = tuple(cell for cell in results.cells if cell.attack is None)
        plot_curves(Results(published), config.plot)
    if config.plot_attacks is not None:
        plot_attacks(results, config.plot_attacks)
    return results


def check(config: EvaluateConfig) -> None:
    """Refuse options out of range. Raises UsageError."""
    for option in ("epochs", "batch_size", "eval_every", "workers", "threads"):
        if vars(config)[option] < 1:
            raise UsageError(f"{option} must be at least 1, not {vars(config)[option]}")
    if not config.train or not config.seeds or len(set(config.seeds)) < len(config.seeds):
        raise UsageError("at least one corpus and one seed are needed, and no seed twice")
    if config.captions is not None and config.captions < 1:
        raise UsageError(f"captions must be at least 1, not {config.captions}")
    if not config.lr > 0 or config.weight_decay < 0:
        raise UsageError("lr must be above 0 and weight_decay not below")
    if config.plot is not None or config.plot_attacks is not None:
        require_matplotlib()


def _wanted(config: EvaluateConfig, lines: list[Comparison]) -> dict[_Key, _Wanted]:
    """Return every victim by line and seed."""
    reading = {
        "test": identity(config.test),
        "caption_fields": list(config.caption_fields),
        "max_pixels": config.max_pixels,
    }
    if config.captions is not None:
        reading["captions"] = config.captions
    wanted = {}
    for line in lines:
        data = line.identity() | reading
        for seed in config.seeds:
            victim = _victim_config(config, seed)
            wanted[line.label, line.copy, seed] = _Wanted(line, victim, victim.identity() | data)
    return wanted


def _victim_config(config: EvaluateConfig, seed: int) -> VictimConfig:
    precision: str = config.precision
    if precision == "auto":
        precision = "bf16" if choose_device(config.device).startswith("cuda") else "fp32"
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
        init=config.init,
        init_sha256=None if config.init is None else checkpoint_digest(config.init),
        identities=config.identities,
    )
    spec = victim.spec()
    sizes = {"image_size": spec.image_size, "context_length": spec.context_length}
    return VictimConfig(**asdict(victim) | sizes)


def _trained(config: EvaluateConfig, missing: dict[_Key, _Wanted]) -> Iterator[VictimResult]:
    """Train the missing victims and yield them as they finish."""
    if not missing:
        return
    victim = next(iter(missing.values())).victim
    assert victim.image_size is not None, "resolved by _victim_config"
    left = Counter(key[:2] for key in missing)
    device = torch.device(choose_device(config.device))
    with tempfile.TemporaryDirectory(prefix="unlearnable-evaluate-") as folder:
        corpora = Corpora(config, victim.image_size, folder, device)
        for cell in _run(config, _tasks(config, corpora, missing)):
            left[cell.row, cell.copy] -= 1
            if not left[cell.row, cell.copy]:
                corpora.release(missing[cell.row, cell.copy, cell.seed].line)
            yield cell


def _tasks(
    config: EvaluateConfig, corpora: Corpora, missing: dict[_Key, _Wanted]
) -> Iterator[_Task]:
    """Prepare the test set and, one line after the other, the corpora that have missing cells."""
    for wanted in missing.values():
        yield _Task(
            wanted=wanted,
            train=corpora.of(wanted.line),
            test=corpora.published(config.test),
            device=choose_device(config.device),
            threads=config.threads,
            weights=_weights_url(config, wanted),
        )


def _is_kept(config: EvaluateConfig, wanted: _Wanted) -> bool:
    """Whether nothing of a finished victim is missing."""
    url = _weights_url(config, wanted)
    return url is None or storage.exists(url)


def _weights_url(config: EvaluateConfig, wanted: _Wanted) -> str | None:
    if config.weights is None:
        return None
    copy = f"-copy{wanted.line.copy}" if wanted.line.copy else ""
    name = f"{wanted.line.label}{copy}-seed{wanted.victim.seed}".replace(" ", "").replace("/", "-")
    return storage.join(config.weights, f"{name}.safetensors")


def _run(config: EvaluateConfig, tasks: Iterator[_Task]) -> Iterator[VictimResult]:
    """Compute tasks, in this process or in ``workers`` others, and yield cells as they finish."""
    if config.workers == 1:
        yield from map(_compute, tasks)
        return
    with _pool(config.workers) as pool:
        running: set[Future[VictimResult]] = set()
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


def _collect(finished: set[Future[VictimResult]]) -> Iterator[VictimResult]:
    for future in finished:
        try:
            yield future.result()
        except BrokenProcessPool as error:
            raise ShardError(
                "the process of a victim died (out of memory?); use fewer workers and run the same "
                "command again, finished victims are kept"
            ) from error


def _compute(task: _Task) -> VictimResult:
    line, victim = task.wanted.line, task.wanted.victim
    run = train_victim(
        task.train,
        task.test,
        victim,
        device=torch.device(task.device),
        threads=task.threads,
        augment=augmentation(line, task.train.size),
        progress=lambda point: _report(task.wanted, point),
        weights=task.weights,
    )
    counts = [len(texts) for texts in task.test.captions]
    if victim.identities:
        counts = [1] * len({texts[0] for texts in task.test.captions})
    return VictimResult(
        name=line.corpus,
        attack=line.attack_label,
        copy=line.copy,
        probe=run.probe,
        seed=victim.seed,
        config=task.wanted.config,
        curve=run.curve,
        chance=chance(counts),
        samples=len(task.train),
        skipped=task.train.skipped,
        test_samples=len(counts),
        test_captions=sum(counts),
        seconds=round(run.seconds, 1),
        device=run.device,
        versions=package_versions(),
    )


def _report(wanted: _Wanted, point: EpochPoint) -> None:
    _log.info(
        "%s seed %d epoch %d of %d: loss %.3f, Hit@10 %.1f / %.1f",
        wanted.line.label,
        wanted.victim.seed,
        point.epoch,
        wanted.victim.epochs,
        float("nan") if point.train_loss is None else point.train_loss,
        point.retrieval.i2t.hit10,
        point.retrieval.t2i.hit10,
    )


def package_versions() -> dict[str, str]:
    """Return the versions that a result was made with, for its record."""
    packages = {name: version(name) for name in ("unlearnable", "torch", "open_clip_torch")}
    return packages | {"python": platform.python_version()}


def _ordered(done: dict[_Key, VictimResult], wanted: dict[_Key, _Wanted]) -> Results:
    return Results(tuple(done[key] for key in wanted if key in done))
