"""`retry`: the failed shards of a run again, with the configuration frozen in its plan."""

from dataclasses import fields

from ..data import storage
from ..data.ledger import read_ledger, record_url
from ..data.plan import Plan, ShardInput, ShardList, inspect_shards, read_plan
from ..data.record import find_record, no_run
from ..errors import BusyError, UsageError
from .config import Request, RetryConfig, RunConfig
from .driver.drive import check_running, drive
from .driver.lease import read_leases
from .driver.summary import RunSummary
from .options import RunOptions, part_of
from .spec import RunSpec, WorkerSetup, package_version


def retry(config: RetryConfig) -> RunSummary:
    """Run the shards again that an earlier run gave up or that are named, and nothing else.

    The bytes are those that an undisturbed run would have written. A shard whose input was
    repaired meanwhile is taken as it is now. Exit codes are those of `protect`.

    Raises:
        UsageError: no run there, or one of another release, or its surrogate is not to be had, or
            no shard of a name.
        BusyError: shards are named while a run has the output.
        StorageFullError: no space is left; nothing half-written was committed.
    """
    record = find_record(config.output, config.record)
    plan = read_plan(record)
    if plan is None:
        raise no_run(config.output, record)
    spec = _frozen_spec(config.output, plan)
    surrogate = config.surrogate or plan.request.get("surrogate")
    if spec.surrogate_sha256 and surrogate is None:
        raise UsageError(f"the plan of {config.output} names no surrogate; give --surrogate")
    kept = {item.name for item in fields(Request)} & plan.request.keys()
    run = RunConfig(
        config.output,
        **vars(part_of(RunOptions, config)),
        **{name: plan.request[name] for name in kept},
        record=record,
    )
    run = check_running(run)
    ledger = read_ledger(record)
    failed = frozenset(name for name, found in ledger.items() if found.status == "failed")
    again = failed | _take_back(config, record, plan)
    setup = WorkerSetup(spec, surrogate or None, run.io_threads, run.device)
    return drive(run, setup, plan, _as_they_are(plan, again), new=False, only=again)


def _take_back(config: RetryConfig, record: str, plan: Plan) -> frozenset[str]:
    """Remove the records of the shards that the user names: without one a shard is not there."""
    names = frozenset(config.shards)
    unknown = sorted(names - {shard.name for shard in plan.shards})
    if unknown:
        raise UsageError(
            f"{config.output} has no shard {unknown[0]}; give names as in _ledger/, without .json"
        )
    if names and (runs := read_leases(record)):
        raise BusyError(
            f"{config.output} is being written by {runs[0]}; wait for its end and run the same "
            f"command again"
        )
    for name in sorted(names):
        storage.remove(record_url(record, name))
    return names


def _frozen_spec(output: str, plan: Plan) -> RunSpec:
    version = package_version()
    if plan.version != version:
        raise UsageError(
            f"{output} was begun by release {plan.version}, this is {version}, whose bytes may "
            f"differ; retry with that release"
        )
    try:
        spec = RunSpec.from_dict(plan.config)
    except (KeyError, TypeError) as error:
        raise UsageError(
            f"{output} was not written by protect; there is nothing to retry"
        ) from error
    assert spec.hash == plan.config_hash, "a plan of this release hashes to its own name"
    return spec


def _as_they_are(plan: Plan, names: frozenset[str]) -> ShardList:
    """Return the shards of the plan, those of ``names`` looked up again.

    The others have neither size nor mark: one that was repaired and committed since is no longer
    what the plan saw.
    """
    urls = [shard.url for shard in plan.shards if shard.name in names]
    now = {shard.name: shard for shard in inspect_shards(urls)}
    return ShardList.of(now.get(s.name, ShardInput(s.name, s.url)) for s in plan.shards)
