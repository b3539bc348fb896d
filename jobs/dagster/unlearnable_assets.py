"""Protect each day's image-caption pairs: shards, surrogate, protected copy, check, publication.

Load it as a code location (`dagster dev -f unlearnable_assets.py`). Every step is one `unlearnable`
command; its exit code decides the step. Settings are the variables of the environment below and the
resource `unlearnable`; see docs/running/dagster.md.
"""

import os
import shlex
import subprocess
from typing import Literal

import dagster as dg
from pydantic import Field

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

    def record_of(self, day: str) -> tuple[str, str]:
        """The option that keeps what undoes the protection apart from what is published."""
        return "--record", f"{self.target}/record/{day}"

    def run(self, context: dg.OpExecutionContext, *arguments: str, allowed: int = 0) -> int:
        """Run one command with its output in the step's log.

        Returns:
            its exit code: 0 or ``allowed``.

        Raises:
            dagster.Failure: it ended otherwise; without another attempt where that cannot help.
        """
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
                code = process.wait()
            except BaseException:
                # The step is terminated: what is half done is left for the next attempt.
                process.terminate()
                try:
                    process.wait(GRACE_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()
                raise
        if code not in (0, allowed):
            reason = FAILED.get(code, "see the log")
            raise dg.Failure(
                f"unlearnable {arguments[0]}: exit code {code}, {reason}: {last}",
                allow_retries=code not in FINAL,
            )
        return code


def _made(url: str) -> dg.MaterializeResult:
    return dg.MaterializeResult(metadata={"url": url})


@dg.asset(partitions_def=DAYS, retry_policy=RETRY)
def shards(context: dg.AssetExecutionContext, unlearnable: Unlearnable) -> dg.MaterializeResult:
    """The day's pairs as WebDataset shards; what arrives as shards is taken as it is."""
    day = context.partition_key
    made = unlearnable.shards(day)
    if unlearnable.kind != "shards":
        source = f"{unlearnable.source}/{day}"
        unlearnable.run(context, "data", unlearnable.kind, source, made, *unlearnable.data_options)
    return _made(made)


@dg.asset(partitions_def=DAYS, retry_policy=RETRY, deps=[shards])
def surrogate(context: dg.AssetExecutionContext, unlearnable: Unlearnable) -> dg.MaterializeResult:
    """The surrogate that protects the day: fitted on its shards, once, or the one that is given."""
    day = context.partition_key
    made = unlearnable.fitted(day)
    if not unlearnable.surrogate:
        options = ("--output", made, "--keep", *unlearnable.fit_options)
        unlearnable.run(context, "fit", unlearnable.shards(day), *options)
    return _made(made)


@dg.asset(partitions_def=DAYS, retry_policy=RETRY, deps=[shards, surrogate])
def protected(context: dg.AssetExecutionContext, unlearnable: Unlearnable) -> dg.MaterializeResult:
    """The protected copy of the day's shards."""
    day = context.partition_key
    made = unlearnable.copy_of(day)
    options = ("--surrogate", unlearnable.fitted(day), "--owner", unlearnable.owner)
    unlearnable.run(
        context, "protect", unlearnable.shards(day), made, *unlearnable.record_of(day), *options,
        *unlearnable.protect_options,
    )  # fmt: skip
    return _made(made)


@dg.asset_check(asset=protected, partitions_def=DAYS, blocking=True, retry_policy=RETRY)
def verified(
    context: dg.AssetCheckExecutionContext, unlearnable: Unlearnable
) -> dg.AssetCheckResult:
    """Every promise of the copy holds against the day's shards; otherwise nothing is published."""
    day = context.partition_key
    code = unlearnable.run(
        context, "verify", unlearnable.copy_of(day), *unlearnable.record_of(day),
        "--against", unlearnable.shards(day), *unlearnable.verify_options, allowed=VIOLATION,
    )  # fmt: skip
    return dg.AssetCheckResult(passed=code == 0)


@dg.asset(partitions_def=DAYS, retry_policy=RETRY, deps=[protected])
def published(context: dg.AssetExecutionContext, unlearnable: Unlearnable) -> dg.MaterializeResult:
    """The mark on a verified copy that those who come next wait for."""
    day = context.partition_key
    made = unlearnable.copy_of(day)
    unlearnable.run(context, "publish", made, *unlearnable.record_of(day))
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
