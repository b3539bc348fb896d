"""What is not the method: reading and writing shards, more workers, the driver."""

import importlib.util
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from ...data.images import encode
from ...data.ledger import LedgerRecord, read_ledger, write_record
from ...data.plan import resolve_input
from ...data.record import find_record
from ...data.shards import Member, Sample, write_shard
from ...execution.artifact import save_surrogate
from ...execution.config import ProtectConfig
from ...execution.driver.drive import drive
from ...execution.driver.resume import find_plan
from ...execution.driver.schedule import ShardTask
from ...execution.options import ExecutorName
from ...execution.protect import make_spec, protect
from ...execution.spec import WorkerSetup
from ...execution.worker.shard_worker import fixed_threads
from ...method.config import FitConfig, MethodConfig
from ...method.models import model_spec
from ...method.protector import BatchProtector
from .method import Corpus, make_corpus, protect_all, untrained
from .record import Figure, wall

_STEPS = 8
_ROUNDS = 2
_IDLE_WORKERS = 2
# Ray's driver does all that the local one does, so the long runs are left to it where there is Ray.
_LOCAL_SHARDS = 10_000


def write_corpus(corpus: Corpus, folder: Path, shards: int) -> None:
    """Write the samples as PNG + txt into ``shards`` shards of equal length."""
    folder.mkdir(parents=True)
    each = len(corpus.images) // shards
    for shard in range(shards):
        rows = range(shard * each, (shard + 1) * each)
        samples = (_sample(corpus, index, index - rows.start) for index in rows)
        write_shard(folder / f"shard-{shard:03d}.tar", samples)


def _sample(corpus: Corpus, index: int, row: int) -> Sample:
    key = f"{index:06d}"
    image = encode(corpus.images[index].permute(1, 2, 0).contiguous().numpy(), "png")
    text = corpus.captions[index][0].encode()
    return Sample(key, (Member(f"{key}.png", "png", image), Member(f"{key}.txt", "txt", text)), row)


def bench_io(settings: FitConfig, samples: int) -> Iterator[Figure]:
    """(ii) A worker against its optimiser alone on the same samples in memory.

    The shard is five times as long as the first part's samples: nothing runs beside a worker's
    first batch in and last batch out, and shards of two batches are not what anyone has.
    """
    samples *= 5
    size = model_spec(settings.model, image_size=settings.image_size).image_size
    corpus = make_corpus(samples, size)
    surrogate = untrained(corpus, settings)
    with tempfile.TemporaryDirectory(prefix="unlearnable-bench-") as name, fixed_threads(1):
        folder = Path(name)
        write_corpus(corpus, folder / "in", 1)
        save_surrogate(surrogate, str(folder / "surrogate"))
        for case, steps in (("default", None), (f"{_STEPS} steps", _STEPS)):
            protector = BatchProtector(surrogate, MethodConfig(steps=steps), settings.device)
            yield from _io(case, folder, corpus, protector, settings, steps)


def _io(
    case: str,
    folder: Path,
    corpus: Corpus,
    protector: BatchProtector,
    settings: FitConfig,
    steps: int | None,
) -> Iterator[Figure]:
    """Measure the optimiser alone and the whole worker in turn; the shortest of each counts."""
    images, samples = list(corpus.images), len(corpus.images)

    def alone() -> None:
        protect_all(protector, images, corpus.captions, settings.batch_size)

    alone()
    walls, records = [], []
    for attempt in range(_ROUNDS):
        walls.append(wall(alone, settings.device))
        output = str(folder / f"out-{case}-{attempt}")
        protect(_config(folder, output, settings, steps=steps))
        records += list(read_ledger(find_record(output)).values())
    optimiser = min(walls)
    best = min((record.timings for record in records), key=lambda times: times["seconds"])
    yield Figure("io", case, "worker", best["seconds"] / samples * 1e3, "ms/sample")
    yield Figure("io", case, "optimiser alone", optimiser / samples * 1e3, "ms/sample")
    yield Figure("io", case, "lost to everything else", 1 - optimiser / best["seconds"], "share")
    inside = best["optimise"] / samples * 1e3
    yield Figure("io", case, "optimiser in the worker", inside, "ms/sample")
    waited = best["wait_input"] + best["wait_output"]
    yield Figure("io", case, "optimiser waited", waited / best["seconds"], "share")
    mine = median(record.timings["optimise_cpu"] for record in records)
    others = median(record.timings["cpu"] for record in records) - mine
    # Below 1 a second core can hide it all, whatever else this machine was doing.
    yield Figure("io", case, "processor time of everything else", others / mine, "ratio")


def bench_workers(settings: FitConfig, samples: int) -> Iterator[Figure]:
    """(v) One and two Ray workers, each with one torch thread; nothing where ray is missing."""
    if importlib.util.find_spec("ray") is None:
        return
    samples *= 2
    size = model_spec(settings.model, image_size=settings.image_size).image_size
    corpus = make_corpus(samples, size)
    rates, mine, whole = {}, {}, {}
    with tempfile.TemporaryDirectory(prefix="unlearnable-bench-") as name:
        folder = Path(name)
        write_corpus(corpus, folder / "in", 8)
        save_surrogate(untrained(corpus, settings), str(folder / "surrogate"))
        for workers in (1, 2):
            output = str(folder / f"out-{workers}")
            config = _config(
                folder, output, settings, steps=_STEPS, executor="ray", workers=workers
            )
            protect(config)
            timings = [record.timings for record in read_ledger(find_record(output)).values()]
            # From the first shard to the last: starting actors and models is not counted.
            span = max(t["finished"] for t in timings) - min(t["started"] for t in timings)
            rates[workers] = samples / span
            mine[workers] = median(t["optimise_cpu"] for t in timings)
            whole[workers] = median(t["cpu"] for t in timings)
            yield Figure("workers", str(workers), "rate", rates[workers], "samples/s")
    yield Figure("workers", "2 / 1", "speed-up", rates[2] / rates[1], "ratio")
    # One worker is as fast as its optimiser, its other threads run on the second core; two workers
    # fill both cores with all they do.
    free = 2 * mine[1] / whole[2]
    yield Figure("workers", "2 / 1", "speed-up by processor time", free, "ratio")


def _config(
    folder: Path, output: str, settings: FitConfig, *, steps: int | None, **running: object
) -> ProtectConfig:
    values = {
        "surrogate": str(folder / "surrogate"),
        "batch_size": settings.batch_size,
        "device": settings.device,
        "executor": "local",
        "steps": steps,
        **running,
    }
    return ProtectConfig(str(folder / "in"), output, **values)  # type: ignore[arg-type]


class IdleWorker:
    """Commits every shard without looking at it."""

    def __init__(self, config_hash: str) -> None:
        self._hash = config_hash

    def run(self, task: ShardTask) -> LedgerRecord:
        """Write the record of a shard of no samples."""
        now = time.time()
        record = LedgerRecord(
            shard=task.shard.name,
            status="committed",
            config_hash=self._hash,
            input={"url": task.shard.url, "size": task.shard.size, "etag": task.shard.etag},
            timings={"started": now, "finished": now, "seconds": 0.0, "optimise": 0.0},
        )
        write_record(task.record, record)
        return record


def make_idle(setup: WorkerSetup) -> IdleWorker:
    """Make an `IdleWorker` (as `worker.make_worker` makes a real one)."""
    return IdleWorker(setup.spec.hash)


def bench_driver(counts: Sequence[int]) -> Iterator[Figure]:
    """(vi) Plan and driver where the work on a shard is none, each count in its own process."""
    executors: list[ExecutorName] = ["local"]
    if importlib.util.find_spec("ray") is not None:
        executors.append("ray")
    for executor in executors:
        for count in counts:
            if executor != executors[-1] and count > _LOCAL_SHARDS:
                continue
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(1, mp_context=context) as pool:
                taken, grown = pool.submit(drive_idle, executor, count).result()
            case = f"{executor}, {count} shards"
            yield Figure("driver", case, "rate", count / taken, "shards/s")
            yield Figure("driver", case, "memory growth", grown / 1e6, "MB")


def drive_idle(executor: ExecutorName, count: int) -> tuple[float, int]:
    """Return the seconds of a run over ``count`` empty shards and the bytes this process grew."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="unlearnable-bench-")))
        if executor == "ray":
            from ...execution.executors.ray.cluster import connection

            stack.enter_context(connection(_IDLE_WORKERS))
        # A first run imports and starts what every run needs.
        for run, number in (("first", 4), ("second", count)):
            _write_empty(folder / run / "in", number)
        _idle_run(folder / "first", executor, 4)
        before = _peak_bytes()
        taken = _idle_run(folder / "second", executor, count)
        return taken, _peak_bytes() - before


def _write_empty(source: Path, count: int) -> None:
    source.mkdir(parents=True)
    for index in range(count):
        (source / f"{index:07d}.tar").touch()


def _idle_run(folder: Path, executor: ExecutorName, count: int) -> float:
    source = folder / "in"
    started = time.perf_counter()
    workers = _IDLE_WORKERS if executor == "ray" else 1
    config = ProtectConfig(
        str(source),
        str(folder / "out"),
        method="random",
        executor=executor,
        workers=workers,
    )
    shards = resolve_input(config.input)
    spec = make_spec(config)
    plan, new = find_plan(spec.as_dict(), shards, config.output, find_record(config.output), {})
    setup = WorkerSetup(spec, None, config.io_threads, "cpu")
    summary = drive(config, setup, plan, shards, new=new, make=make_idle)
    assert summary.committed == count, summary
    return time.perf_counter() - started


def _peak_bytes() -> int:
    # Linux hands ru_maxrss on from the process that started this one, which may be far larger.
    status = Path("/proc/self/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
