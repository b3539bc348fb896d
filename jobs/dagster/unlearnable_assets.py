"""Protect each day's image-caption pairs: shards, surrogate, protected copy, check, publication.

Load it as a code location (`dagster dev -f unlearnable_assets.py`). Every step is one `unlearnable`
command; its exit code decides the step. Settings are the variables of the environment below and the
resource `unlearnable`; see docs/running/dagster.md.
"""

import os
import shlex
import subprocess
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import dagster as dg
from pydantic import Field

try:
    from openlineage.client import OpenLineageClient, event_v2
    from openlineage.client.facet_v2 import parent_run
    from openlineage.client.transport.noop import NoopConfig, NoopTransport
except ModuleNotFoundError:
    # Lineage is optional.
    OpenLineageClient = None

# The command has an environment of its own: torch and Dagster do not pin the same versions.
COMMAND = os.environ.get("UNLEARNABLE_COMMAND", "unlearnable")
SOURCE = os.environ.get("UNLEARNABLE_SOURCE", "/data/incoming")
TARGET = os.environ.get("UNLEARNABLE_TARGET", "/data/unlearnable")
START = os.environ.get("UNLEARNABLE_START", "2026-01-01")
RETRY_SECONDS = float(os.environ.get("UNLEARNABLE_RETRY_SECONDS", "300"))

FAILED = {
    2: "the request is wrong",
    3: "shards failed, or too many samples are quarantined",
    4: "violations were found",
    130: "interrupted; the next attempt goes on where it stopped",
    143: "ended by SIGTERM; the next attempt goes on where it stopped",
    -9: "killed, by the memory limit as a rule; the next attempt goes on where it stopped",
}
# Exit codes that the same command on the same input gives again: a person has to look.
FINAL = (2, 4)
# To send what a transport still holds.
LINEAGE_SECONDS = 10
# More than the grace that `protect` gives the shards in work after a SIGTERM.
GRACE_SECONDS = 60
VIOLATION = 4

DAYS = dg.DailyPartitionsDefinition(start_date=START)
RETRY = dg.RetryPolicy(max_retries=2, delay=RETRY_SECONDS)


class Unlearnable(dg.ConfigurableResource):
    """The command line, and what it is given."""

    source: str = Field(SOURCE, description="What arrives; a folder for each day")
    target: str = Field(TARGET, description="Where everything goes, by day")
    kind: Literal["shards", "folder", "flickr8k", "flickr30k", "coco", "faces"] = Field(
        "shards", description="shards, or what `unlearnable data` makes shards of"
    )
    surrogate: str = Field("", description="One for all days; empty: fit one a day")
    owner: str = Field("", description="Who publishes; printed in the card")
    data_options: list[str] = Field([], description="More arguments of `data`")
    fit_options: list[str] = Field([], description="More arguments of `fit`")
    protect_options: list[str] = Field([], description="More arguments of `protect`")
    verify_options: list[str] = Field([], description="More arguments of `verify`")

    def shards(self, day: str) -> str:
        """URL of the day's input shards."""
        return f"{self.source if self.kind == 'shards' else self.target + '/shards'}/{day}"

    def fitted(self, day: str) -> str:
        """URL of the surrogate that protects the day."""
        return self.surrogate or f"{self.target}/surrogate/{day}"

    def copy_of(self, day: str) -> str:
        """URL of the day's protected copy."""
        return f"{self.target}/protected/{day}"

    def record_of(self, day: str) -> str:
        """URL of what undoes the protection; it lies apart from what is published."""
        return f"{self.target}/record/{day}"

    def run(
        self,
        context: Any,
        *arguments: str,
        reads: Sequence[str],
        writes: Sequence[str] = (),
        allowed: int = 0,
    ) -> int:
        """Run one command with its output in the step's log.

        Args:
            context: of the asset or the check.
            arguments: the command and its arguments.
            reads: URLs of what the command reads; for OpenLineage.
            writes: URLs of what it writes; for OpenLineage.
            allowed: an exit code beside 0 that is no failure of the step.

        Returns:
            its exit code: 0 or ``allowed``.

        Raises:
            dagster.Failure: it ended otherwise; without another attempt where that cannot help.
        """
        run_id, code, last = str(uuid.uuid4()), None, ""
        tell_lineage(context, run_id, "START", reads, writes)
        try:
            code, last = _execute(context, arguments)
        finally:
            tell_lineage(context, run_id, "COMPLETE" if code == 0 else "FAIL", reads, writes)
        if code not in (0, allowed):
            reason = FAILED.get(code, "see the log")
            raise dg.Failure(
                f"unlearnable {arguments[0]}: exit code {code}, {reason}: {last}",
                allow_retries=code not in FINAL,
            )
        return code


def _execute(context: Any, arguments: Sequence[str]) -> tuple[int, str]:
    """Run a command; return its exit code and the last line that it wrote."""
    line = [COMMAND, *arguments]
    context.log.info("$ %s", shlex.join(line))
    last = ""
    with subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        try:
            assert process.stdout is not None
            for text in process.stdout:
                last = text.rstrip()
                context.log.info(last)
            return process.wait(), last
        except BaseException:
            # The step is terminated: what is half done is left for the next attempt.
            process.terminate()
            try:
                process.wait(GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
            raise


def dataset_name(url: str) -> tuple[str, str]:
    """Return a folder as OpenLineage names it: the store, and the path in it."""
    scheme, found, rest = url.partition("://")
    if not found:
        return "file", os.path.abspath(url)
    store, _, path = rest.partition("/")
    return f"{scheme}://{store}", path or "/"


def tell_lineage(
    context: Any, run_id: str, state: str, reads: Sequence[str], writes: Sequence[str]
) -> None:
    """Tell OpenLineage, where its client is installed and configured, of a step and its folders.

    An error is a warning in the step's log: lineage decides no step.
    """
    if OpenLineageClient is None:
        return
    try:
        # Without a configuration the client would print the events.
        if not OpenLineageClient(transport=NoopTransport(NoopConfig())).config.transport:
            return
        namespace = os.environ.get("OPENLINEAGE_NAMESPACE", "default")
        whole = context.run
        parent = parent_run.ParentRunFacet(
            run=parent_run.Run(whole.run_id), job=parent_run.Job(namespace, whole.job_name)
        )
        client = OpenLineageClient()
        client.emit(
            event_v2.RunEvent(
                eventTime=datetime.now(UTC).isoformat(),
                eventType=event_v2.RunState[state],
                run=event_v2.Run(run_id, {"parent": parent}),
                job=event_v2.Job(namespace, f"unlearnable.{context.op_execution_context.op.name}"),
                inputs=[event_v2.InputDataset(*dataset_name(url)) for url in reads],
                outputs=[event_v2.OutputDataset(*dataset_name(url)) for url in writes],
            )
        )
        client.close(LINEAGE_SECONDS)
    except Exception as error:  # noqa: BLE001 - each transport raises errors of its own
        context.log.warning("OpenLineage was not told: %s", error)


def _made(url: str) -> dg.MaterializeResult:
    return dg.MaterializeResult(metadata={"url": url})


@dg.asset(partitions_def=DAYS, retry_policy=RETRY)
def shards(context: dg.AssetExecutionContext, unlearnable: Unlearnable) -> dg.MaterializeResult:
    """The day's pairs as WebDataset shards; what arrives as shards is taken as it is."""
    day = context.partition_key
    made = unlearnable.shards(day)
    if unlearnable.kind != "shards":
        source = f"{unlearnable.source}/{day}"
        unlearnable.run(
            context, "data", unlearnable.kind, source, made, *unlearnable.data_options,
            reads=[source], writes=[made],
        )  # fmt: skip
    return _made(made)


@dg.asset(partitions_def=DAYS, retry_policy=RETRY, deps=[shards])
def surrogate(context: dg.AssetExecutionContext, unlearnable: Unlearnable) -> dg.MaterializeResult:
    """The surrogate that protects the day: fitted on its shards, once, or the one that is given."""
    day = context.partition_key
    made = unlearnable.fitted(day)
    if not unlearnable.surrogate:
        source = unlearnable.shards(day)
        unlearnable.run(
            context, "fit", source, "--output", made, "--keep", *unlearnable.fit_options,
            reads=[source], writes=[made],
        )  # fmt: skip
    return _made(made)


@dg.asset(partitions_def=DAYS, retry_policy=RETRY, deps=[shards, surrogate])
def protected(context: dg.AssetExecutionContext, unlearnable: Unlearnable) -> dg.MaterializeResult:
    """The protected copy of the day's shards."""
    day = context.partition_key
    source, fitted = unlearnable.shards(day), unlearnable.fitted(day)
    made, record = unlearnable.copy_of(day), unlearnable.record_of(day)
    unlearnable.run(
        context, "protect", source, made, "--record", record, "--surrogate", fitted,
        "--owner", unlearnable.owner, *unlearnable.protect_options,
        reads=[source, fitted], writes=[made, record],
    )  # fmt: skip
    return _made(made)


@dg.asset_check(asset=protected, partitions_def=DAYS, blocking=True, retry_policy=RETRY)
def verified(
    context: dg.AssetCheckExecutionContext, unlearnable: Unlearnable
) -> dg.AssetCheckResult:
    """Every promise of the copy holds against the day's shards; otherwise nothing is published."""
    day = context.partition_key
    copy, record, source = (
        unlearnable.copy_of(day), unlearnable.record_of(day), unlearnable.shards(day)
    )  # fmt: skip
    code = unlearnable.run(
        context, "verify", copy, "--record", record, "--against", source,
        *unlearnable.verify_options, reads=[copy, record, source], allowed=VIOLATION,
    )  # fmt: skip
    return dg.AssetCheckResult(passed=code == 0)


@dg.asset(partitions_def=DAYS, retry_policy=RETRY, deps=[protected])
def published(context: dg.AssetExecutionContext, unlearnable: Unlearnable) -> dg.MaterializeResult:
    """The mark on a verified copy that those who come next wait for."""
    day = context.partition_key
    made, record = unlearnable.copy_of(day), unlearnable.record_of(day)
    unlearnable.run(
        context, "publish", made, "--record", record, reads=[made, record], writes=[made]
    )
    return _made(made)


day_job = dg.define_asset_job(
    "unlearnable_day",
    selection=dg.AssetSelection.assets(shards, surrogate, protected, published)
    | dg.AssetSelection.checks(verified),
    partitions_def=DAYS,
    # The commands use every core themselves.
    executor_def=dg.in_process_executor,
)

defs = dg.Definitions(
    assets=[shards, surrogate, protected, published],
    asset_checks=[verified],
    jobs=[day_job],
    schedules=[dg.build_schedule_from_partitioned_job(day_job)],
    resources={"unlearnable": Unlearnable()},
)
