"""Protect each day's image-caption pairs: convert, fit, protect, verify, publish.

Copy this file to the folder of DAGs. Every task is one `unlearnable` command; its exit code decides
the task. Settings are the variables of the environment below and the DAG's parameters; see
docs/running/airflow.md.
"""

from __future__ import annotations

import os
import subprocess
from typing import Any

import pendulum
from airflow.exceptions import AirflowException, AirflowFailException, AirflowSkipException
from airflow.providers.standard.hooks.subprocess import SubprocessHook
from airflow.sdk import DAG, Asset, BaseOperator, Param, TriggerRule
from airflow.timetables.interval import CronDataIntervalTimetable

# The command has an environment of its own: torch and Airflow do not pin the same versions.
COMMAND = os.environ.get("UNLEARNABLE_COMMAND", "unlearnable")
SOURCE = os.environ.get("UNLEARNABLE_SOURCE", "/data/incoming")
TARGET = os.environ.get("UNLEARNABLE_TARGET", "/data/unlearnable")
START = os.environ.get("UNLEARNABLE_START", "2026-01-01")
RETRY_SECONDS = float(os.environ.get("UNLEARNABLE_RETRY_SECONDS", "300"))

# Exit codes that the same command on the same input gives again: a person has to look.
FINAL = (2, 4)
FAILED = {
    2: "the request is wrong",
    3: "shards failed, or too many samples are quarantined",
    4: "violations were found",
    130: "interrupted; the next attempt goes on where it stopped",
    143: "ended by SIGTERM; the next attempt goes on where it stopped",
    -9: "killed, by the memory limit as a rule; the next attempt goes on where it stopped",
}
# More than the grace that `protect` gives the shards in work after a SIGTERM.
GRACE_SECONDS = 60


class UnlearnableOperator(BaseOperator):
    """Run one command; its exit code decides between success, another attempt and failure.

    Args:
        arguments: the command and its arguments, templated.
        options: name of the DAG parameter that holds more of them.
        skip: why there is nothing to do, templated; empty when there is.
        reads: URLs of what the command reads, templated; for OpenLineage.
        writes: URLs of what it writes, templated; for OpenLineage.
    """

    template_fields = ("arguments", "skip", "reads", "writes")

    def __init__(
        self,
        *,
        arguments: list[str],
        options: str = "",
        skip: str = "",
        reads: list[str] | None = None,
        writes: list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.arguments = arguments
        self.options = options
        self.skip = skip
        self.reads = reads or []
        self.writes = writes or []
        self.hook = SubprocessHook()

    def execute(self, context: Any) -> str:
        """Run the command and return the last line that it wrote."""
        if self.skip:
            raise AirflowSkipException(self.skip)
        more = context["params"][self.options] if self.options else []
        result = self.hook.run_command([COMMAND, *self.arguments, *more])
        code = result.exit_code
        if code:
            error = AirflowFailException if code in FINAL else AirflowException
            raise error(f"exit code {code}, {FAILED.get(code, 'see the log')}: {result.output}")
        return str(result.output)

    def get_openlineage_facets_on_start(self) -> Any:
        """Tell Airflow's OpenLineage provider, where it is installed, what is read and written."""
        from airflow.providers.openlineage.extractors import OperatorLineage
        from openlineage.client.event_v2 import Dataset

        return OperatorLineage(
            inputs=[Dataset(*dataset_name(url)) for url in self.reads],
            outputs=[Dataset(*dataset_name(url)) for url in self.writes],
        )

    def get_openlineage_facets_on_complete(self, _task_instance: Any) -> Any:
        """Tell it again: a task that is over has read and written the same."""
        return self.get_openlineage_facets_on_start()

    def on_kill(self) -> None:
        """Let the command end in order: what is half done is left for the next attempt."""
        self.hook.send_sigterm()
        process = self.hook.sub_process
        if process is not None:
            try:
                process.wait(GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def dataset_name(url: str) -> tuple[str, str]:
    """Return a folder as OpenLineage names it: the store, and the path in it."""
    scheme, found, rest = url.partition("://")
    if not found:
        return "file", os.path.abspath(url)
    store, _, path = rest.partition("/")
    return f"{scheme}://{store}", path or "/"


INCOMING = "{{ params.source }}/{{ ds }}"
MADE = "{{ params.target }}/shards/{{ ds }}"
SHARDS = f"{{% if params.kind == 'shards' %}}{INCOMING}{{% else %}}{MADE}{{% endif %}}"
FITTED = "{{ params.surrogate or params.target ~ '/surrogate/' ~ ds }}"
COPY = "{{ params.target }}/protected/{{ ds }}"
# What undoes the protection lies apart from what is published.
KEPT = "{{ params.target }}/record/{{ ds }}"
RECORD = ("--record", KEPT)
OWNER = ("--owner", "{{ params.owner }}")

PARAMS = {
    "source": Param(SOURCE, type="string", description="What arrives; a folder for each day"),
    "target": Param(TARGET, type="string", description="Where everything goes, by day"),
    "kind": Param(
        "shards",
        enum=["shards", "folder", "flickr8k", "flickr30k", "coco", "faces"],
        description="shards, or what `unlearnable data` makes shards of",
    ),
    "surrogate": Param("", type="string", description="One for all days; empty: fit one a day"),
    "owner": Param("", type="string", description="Who publishes; printed in the card"),
    "data_options": Param([], type="array", description="More arguments of `data`"),
    "fit_options": Param([], type="array", description="More arguments of `fit`"),
    "protect_options": Param([], type="array", description="More arguments of `protect`"),
    "verify_options": Param([], type="array", description="More arguments of `verify`"),
}

with DAG(
    "unlearnable",
    description="Protect each day's image-caption pairs before they are published",
    schedule=CronDataIntervalTimetable("@daily", timezone="UTC"),
    start_date=pendulum.parse(START, tz="UTC"),
    catchup=False,
    max_active_runs=2,
    params=PARAMS,
    default_args={"retries": 2, "retry_delay": pendulum.duration(seconds=RETRY_SECONDS)},
    doc_md=__doc__,
    tags=["unlearnable"],
):
    convert = UnlearnableOperator(
        task_id="convert",
        arguments=["data", "{{ params.kind }}", INCOMING, MADE],
        reads=[INCOMING],
        writes=[MADE],
        options="data_options",
        skip="{{ 'the input is shards already' if params.kind == 'shards' else '' }}",
    )
    fit = UnlearnableOperator(
        task_id="fit",
        arguments=["fit", SHARDS, "--output", FITTED, "--keep"],
        reads=[SHARDS],
        writes=[FITTED],
        options="fit_options",
        skip="{{ 'the surrogate is given' if params.surrogate else '' }}",
        trigger_rule=TriggerRule.NONE_FAILED,
    )
    protect = UnlearnableOperator(
        task_id="protect",
        arguments=["protect", SHARDS, COPY, *RECORD, "--surrogate", FITTED, *OWNER],
        reads=[SHARDS, FITTED],
        writes=[COPY, KEPT],
        options="protect_options",
        trigger_rule=TriggerRule.NONE_FAILED,
    )
    verify = UnlearnableOperator(
        task_id="verify",
        arguments=["verify", COPY, *RECORD, "--against", SHARDS],
        reads=[COPY, KEPT, SHARDS],
        options="verify_options",
    )
    publish = UnlearnableOperator(
        task_id="publish",
        arguments=["publish", COPY, *RECORD],
        reads=[COPY, KEPT],
        writes=[COPY],
        outlets=[Asset("unlearnable_protected")],
    )
    convert >> fit >> protect >> verify >> publish
