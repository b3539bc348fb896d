"""``unlearnable submit``: another command as a job of a Ray cluster, judged by its ledger."""

import hashlib
import logging
import math
import shlex
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated, Any

import yaml
from cyclopts import Parameter

from ..pipeline.errors import UsageError
from ..pipeline.execution.driver.stop import Interrupted

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SubmitConfig:
    """Run a command on a Ray cluster and wait for its end."""

    command: tuple[str, ...]
    """After `--`: the command and its options, as they would be given here."""
    _: KW_ONLY
    address: str | None = None
    """URL of the cluster's job server, http://HOST:8265; RAY_ADDRESS when unset."""
    runtime_env: str | None = None
    """YAML file with a Ray runtime environment for the job."""
    working_dir: str | None = None
    """Local folder that is sent along and in which the command starts."""
    stop_seconds: float = 60.0
    """Seconds that a job has to end after it is told to stop; above its grace-seconds."""


def submit(config: Annotated[SubmitConfig, Parameter(name="*")]) -> int:
    """Run a command on a Ray cluster; follow its log; end as its output says.

    The same command again follows the job that runs. SIGINT and SIGTERM stop the job.
    """
    from ..pipeline.execution.driver.summary import outcome_of
    from .ray_job import RayJobs

    output, record = _output_of(config)
    environment = _runtime_env(config)
    entrypoint = shlex.join(["python", "-m", "unlearnable", *config.command])
    before = outcome_of(output, record) if output is not None else None
    jobs = RayJobs(config.address)
    name = f"unlearnable-{hashlib.sha256(entrypoint.encode()).hexdigest()[:12]}"
    job = jobs.begin(name, entrypoint, environment)
    stopped = 0
    try:
        details = jobs.follow(job)
    except Interrupted as stop:
        log.warning("stopping job %s, which has %g s to end", job, config.stop_seconds)
        jobs.stop(job)
        details = jobs.follow(job, at_most=config.stop_seconds + 30)
        stopped = stop.exit_code
    was_complete = before is not None and before.exit_code == 0
    return _exit_code(details, output, was_complete=was_complete, stopped=stopped, record=record)


def _exit_code(
    details: Any,
    output: str | None,
    *,
    was_complete: bool,
    stopped: int,
    record: str | None = None,
) -> int:
    """Return the exit code of the whole, the driver's own where it told one that counts.

    Ray keeps none for a driver that was stopped or lost. Then the output decides: it is complete
    now and was not before, or the command has to be run again.
    """
    from ..pipeline.execution.driver.summary import outcome_of

    state = "LOST" if details is None else str(details.status.value)
    code = None if details is None else details.driver_exit_code
    if code is not None and (code < 0 or code == 137):
        code = None
    if state == "FAILED" and code is None and details.message:
        log.error("%s", details.message.strip().splitlines()[-1])
    if not stopped and state == "STOPPED":
        stopped = 143
    log.info("the job is %s%s", state, "" if code is None else f" with exit code {code}")
    if code or output is None:
        return int(code) if code is not None else stopped or 1
    summary = outcome_of(output, record)
    if summary is None:
        log.error("%s holds no run", output)
        return stopped or 3
    log.info("by its ledger: %d of %d shards", summary.committed, summary.shards)
    if code is None and was_complete:
        # What was complete before says nothing of a job that told nothing.
        return stopped or 3
    return summary.exit_code and (stopped or summary.exit_code)


def _output_of(config: SubmitConfig) -> tuple[str | None, str | None]:
    """Check the command here, before a cluster is asked; return its output and its record."""
    from ..pipeline.execution.config import ProtectConfig, RetryConfig
    from .cli import parse

    name, request = parse(config.command)
    if name == "submit":
        raise UsageError("a job that submits jobs is not supported; give the command itself")
    if not isinstance(request, ProtectConfig | RetryConfig):
        return None, None
    urls = {
        "output": request.output, "record": request.record, "surrogate": request.surrogate
    }  # fmt: skip
    if isinstance(request, ProtectConfig):
        if request.dry_run:
            return None, None
        urls = {"input": request.input, **urls}
    if request.grace_seconds >= config.stop_seconds:
        raise UsageError(
            f"grace-seconds is {request.grace_seconds:g}, but the job is killed stop-seconds, "
            f"{config.stop_seconds:g}, after it is told to stop; raise --stop-seconds above it"
        )
    from ..pipeline.data import storage

    for option, url in urls.items():
        if url and storage.local_path(url) is not None and not url.startswith(("/", "file:")):
            raise UsageError(
                f"{option} is {url}, which is another folder on the cluster; give a URL, or the "
                f"absolute path of a folder that this machine and the cluster share"
            )
    return str(request.output), request.record


def _runtime_env(config: SubmitConfig) -> dict[str, Any]:
    environment: Any = {}
    if config.runtime_env is not None:
        try:
            environment = yaml.safe_load(Path(config.runtime_env).read_text(encoding="utf-8")) or {}
        except (OSError, ValueError, yaml.YAMLError) as error:
            reason = " ".join(str(error).split())
            raise UsageError(f"cannot read --runtime-env {config.runtime_env}: {reason}") from error
        if not isinstance(environment, dict):
            raise UsageError(f"--runtime-env {config.runtime_env} must hold one mapping")
    if config.working_dir is not None:
        environment["working_dir"] = config.working_dir
    # Ray kills a driver 3 s after it told it to stop, unless this says otherwise.
    variables = {"RAY_JOB_STOP_WAIT_TIME_S": str(math.ceil(config.stop_seconds))}
    environment["env_vars"] = {**variables, **environment.get("env_vars", {})}
    return dict(environment)
