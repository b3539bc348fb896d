"""`verify`: recompute every promise of a protected copy from its files."""

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import TypeVar

from ..data.plan import Plan, ShardInput, read_plan, resolve_input
from ..data.record import find_record, no_run
from ..errors import UsageError
from ..execution.checks import check_least
from ..execution.driver.progress import Progress
from ..execution.driver.schedule import Outcome, Queue, ShardTask, Worker
from ..execution.driver.stop import stop_on_signals
from ..execution.executors.choose import execute, resolve_executor
from .check_worker import CheckSetup, CheckWorker, ReaderSetup, ReaderWorker
from .config import VerifyConfig
from .findings import CODES, Findings, VerifyReport, Violation
from .reader_checks import UNCHECKED, check_files, read_entries, shard_of
from .run_checks import check_inputs, check_run
from .sample_checks import Rules
from .sampling import ShardSample, draw, upper_bound

__all__ = ["CODES", "VerifyReport", "Violation", "verify"]

_ATTEMPTS = 3
_OLD_CARD = "the card, which version 0.1.0 wrote; protect it again to have one of this version"

T = TypeVar("T")


def verify(config: VerifyConfig) -> VerifyReport:
    """Check a protected copy, with ``against`` also every image and caption against its original.

    Nothing is taken from the memory of the run that wrote it. Without the originals an attacker
    who rewrites manifests and records consistently cannot be told from the owner; with them every
    pixel is held to epsilon. Without the record, which only the owner has, it checks what a reader
    can check, and says what it could not. Shards are checked one by one, on the same executors as
    `protect` uses; each is streamed: memory is that of a few samples and one shard's manifest.

    Raises:
        UsageError: no copy at ``output``, no plan at ``record``, or nothing at ``against``.
        Interrupted: SIGINT or SIGTERM came.
    """
    started = time.monotonic()
    check_least(config, 1, "threads", "workers", "sample_shards")
    check_least(config, 0, "max_listed", "shard_timeout")
    config = resolve_executor(config)
    record = find_record(config.output, config.record)
    plan = read_plan(record)
    findings = Findings(config.max_listed)
    if plan is not None:
        names, sample = _check_with_record(config, record, plan, findings)
        unchecked: tuple[str, ...] = ()
        if record == config.output and sample is None:
            unchecked = (_OLD_CARD,)
    elif config.record is not None or config.against is not None:
        raise no_run(config.output, record)
    else:
        names, sample = _check_as_reader(config, record, findings)
        unchecked = UNCHECKED
    # Shards come in as they are done; the report is in the order of the plan.
    place = {name: number for number, name in enumerate(names)}
    return VerifyReport(
        output=config.output,
        against=config.against,
        shards=len(names) if sample is None else sample.checked,
        samples=findings.samples,
        counts=dict(findings.counts),
        violations=sorted(findings.violations, key=lambda found: place.get(found.shard, -1)),
        seconds=round(time.monotonic() - started, 3),
        sample=sample,
        unchecked=unchecked,
    )


def _check_with_record(
    config: VerifyConfig, record: str, plan: Plan, findings: Findings
) -> tuple[list[str], ShardSample | None]:
    """Check everything; return the names of all shards, and what a sample of them says."""
    try:
        rules = Rules.of(plan.config, config.max_pixels)
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{record}: its plan holds no configuration ({error!r})") from error
    originals: dict[str, str] = {}
    if config.against is not None:
        originals = {shard.name: shard.url for shard in resolve_input(config.against)}
        check_inputs(plan, originals, findings)
    chosen, seed = _drawn(config, plan.shards)
    sampled = len(chosen) < len(plan.shards)
    check_run(config.output, record, plan, findings, chosen if sampled else None)
    shards = [ShardInput(shard.name, originals.get(shard.name, "")) for shard in chosen]
    setup = CheckSetup(replace(plan, shards=()), rules, config.max_listed, config.threads)
    wrong = _check_shards(config, record, partial(CheckWorker, setup), shards, findings)
    names = [shard.name for shard in plan.shards]
    return names, _sample(names, len(chosen), seed, wrong) if sampled else None


def _check_as_reader(
    config: VerifyConfig, record: str, findings: Findings
) -> tuple[list[str], ShardSample | None]:
    """Check what needs no record; return as `_check_with_record`."""
    entries, fields, several = read_entries(config.output, findings)
    names = list(entries)
    chosen, seed = _drawn(config, names)
    check_files(config.output, entries, findings)
    setup = ReaderSetup(fields, config.max_pixels, config.max_listed, config.threads, several)
    shards = [shard_of(name, entries[name]) for name in chosen]
    counts = {name: int(entries[name]["nsamples"]) for name in chosen}
    make = partial(ReaderWorker, setup)
    wrong = _check_shards(config, record, make, shards, findings, counts)
    sampled = len(chosen) < len(names)
    return names, _sample(names, len(chosen), seed, wrong) if sampled else None


def _drawn(config: VerifyConfig, shards: Sequence[T]) -> tuple[list[T], int]:
    if config.sample_shards is None:
        return list(shards), 0
    return draw(shards, config.sample_shards, config.seed)


def _sample(names: Sequence[str], checked: int, seed: int, wrong: int) -> ShardSample:
    bound = upper_bound(len(names), checked, wrong)
    return ShardSample(checked, len(names), seed, wrong, bound)


def _check_shards(
    config: VerifyConfig,
    record: str,
    make: Callable[[], Worker[Findings]],
    shards: list[ShardInput],
    findings: Findings,
    counts: dict[str, int] | None = None,
) -> int:
    """Check ``shards`` on the executor that was asked for; return how many are wrong.

    Args:
        config: where, and how.
        record: URL of the record.
        make: makes a worker.
        shards: what is to be checked.
        findings: added to.
        counts: samples that each shard should have; None when its check compares them itself.
    """

    def give_up(task: ShardTask, outcome: Outcome[Findings]) -> Findings:
        found = Findings(config.max_listed, task.shard.name)
        found.add("not_checked", task.shard.name, "", outcome.error)
        return found

    queue = Queue(shards, config.output, record, max_attempts=_ATTEMPTS, give_up=give_up)
    wrong = 0
    with stop_on_signals() as stop, Progress(len(shards)) as progress:
        with closing(execute(config, make, queue, stop, gpus_per_worker=0.0)) as finished:
            for part in finished:
                stated = (counts or {}).get(part.shard, part.samples)
                if stated != part.samples and not part.counts:
                    message = f"{part.samples} samples, the index says {stated}"
                    part.add("index_mismatch", part.shard, "", message)
                wrong += bool(part.counts)
                findings.take_in(part)
                progress.update(part.samples)
        stop.check()
    return wrong
