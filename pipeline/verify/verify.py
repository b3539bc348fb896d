"""`verify`: recompute every promise of a protected copy from its published files."""

import time
from contextlib import closing
from dataclasses import replace
from functools import partial

from ..data.plan import Plan, ShardInput, read_plan, resolve_input
from ..errors import UsageError
from ..execution.checks import check_least
from ..execution.driver.progress import Progress
from ..execution.driver.schedule import Outcome, Queue, ShardTask
from ..execution.driver.stop import stop_on_signals
from ..execution.executors.choose import execute, resolve_executor
from .check_worker import CheckSetup, CheckWorker
from .config import VerifyConfig
from .findings import CODES, Findings, VerifyReport, Violation
from .run_checks import check_inputs, check_run
from .sample_checks import Rules
from .sampling import ShardSample, draw, upper_bound

__all__ = ["CODES", "VerifyReport", "Violation", "verify"]

_ATTEMPTS = 3


def verify(config: VerifyConfig) -> VerifyReport:
    """Check a protected copy, with ``against`` also every image and caption against its original.

    Nothing is taken from the memory of the run that wrote it. Without the originals an attacker
    who rewrites manifests and records consistently cannot be told from the owner; with them every
    pixel is held to epsilon. Shards are checked one by one, on the same executors as `protect`
    uses; each is streamed: memory is that of a few samples and one shard's manifest.

    Raises:
        UsageError: no plan at ``output``, or nothing at ``against``.
        Interrupted: SIGINT or SIGTERM came.
    """
    started = time.monotonic()
    check_least(config, 1, "threads", "workers", "sample_shards")
    check_least(config, 0, "max_listed", "shard_timeout")
    config = resolve_executor(config)
    plan = read_plan(config.output)
    if plan is None:
        raise UsageError(
            f"{config.output} holds no run: it has no plan; give the folder that protect writes to"
        )
    try:
        rules = Rules.of(plan.config, config.max_pixels)
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{config.output}: its plan holds no configuration ({error!r})") from error
    findings = Findings(config.max_listed)
    originals: dict[str, str] = {}
    if config.against is not None:
        originals = {shard.name: shard.url for shard in resolve_input(config.against)}
        check_inputs(plan, originals, findings)
    chosen, seed = list(plan.shards), 0
    if config.sample_shards is not None:
        chosen, seed = draw(plan.shards, config.sample_shards, config.seed)
    sampled = len(chosen) < len(plan.shards)
    check_run(config.output, plan, findings, chosen if sampled else None)
    shards = [ShardInput(shard.name, originals.get(shard.name, "")) for shard in chosen]
    wrong = _check_shards(config, plan, rules, shards, findings)
    sample = None
    if sampled:
        bound = upper_bound(len(plan.shards), len(chosen), wrong)
        sample = ShardSample(len(chosen), len(plan.shards), seed, wrong, bound)
    return _report(config, plan, len(chosen), findings, sample, time.monotonic() - started)


def _check_shards(
    config: VerifyConfig, plan: Plan, rules: Rules, shards: list[ShardInput], findings: Findings
) -> int:
    """Check ``shards`` on the executor that was asked for; return how many are wrong."""

    def give_up(task: ShardTask, outcome: Outcome[Findings]) -> Findings:
        found = Findings(config.max_listed, task.shard.name)
        found.add("not_checked", task.shard.name, "", outcome.error)
        return found

    setup = CheckSetup(replace(plan, shards=()), rules, config.max_listed, config.threads)
    make = partial(CheckWorker, setup)
    queue = Queue(shards, config.output, max_attempts=_ATTEMPTS, give_up=give_up)
    wrong = 0
    with stop_on_signals() as stop, Progress(len(shards), 0) as progress:
        with closing(execute(config, make, queue, stop, gpus_per_worker=0.0)) as finished:
            for part in finished:
                wrong += bool(part.counts)
                findings.take_in(part)
                progress.update(part.samples)
        stop.check()
    return wrong


def _report(
    config: VerifyConfig,
    plan: Plan,
    shards: int,
    findings: Findings,
    sample: ShardSample | None,
    seconds: float,
) -> VerifyReport:
    # Shards come in as they are done; the report is in the order of the plan.
    place = {shard.name: number for number, shard in enumerate(plan.shards)}
    return VerifyReport(
        output=config.output,
        against=config.against,
        shards=shards,
        samples=findings.samples,
        counts=dict(findings.counts),
        violations=sorted(findings.violations, key=lambda found: place.get(found.shard, -1)),
        seconds=round(seconds, 3),
        sample=sample,
    )
