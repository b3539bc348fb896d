"""What `submit` refuses before it asks a cluster, and how it reads the end of a job."""

from __future__ import annotations

from pathlib import Path

import pytest

from unlearnable.jobs.cli import main, parse
from unlearnable.jobs.submit import SubmitConfig, _exit_code, _runtime_env
from unlearnable.pipeline.execution.config import ProtectConfig
from unlearnable.pipeline.execution.protect import protect

NOWHERE = "http://127.0.0.1:9"
RANDOM = ("--method", "random")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("protect", "/in", "/out", "--wokers", "4"), "Did you mean --workers"),
        (("protect", "/in"), "--output"),
        (("nonsense",), "Unknown command"),
        (("protect", "in", "/out"), "input is in, which is another folder on the cluster"),
        (("protect", "/in", "s3://b/out", "--surrogate", "s"), "surrogate is s, which is another"),
        (("retry", "out"), "output is out, which is another folder"),
        (("protect", "/in", "/out", "--grace-seconds", "60"), "raise --stop-seconds above it"),
        (("submit", "--", "status", "/out"), "a job that submits jobs is not supported"),
        (("protect", "/in", "/out", "--config", "/none.yaml"), "cannot read --config /none.yaml"),
    ],
)
def test_a_command_is_checked_here(
    command: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["submit", "--address", NOWHERE, "--", *command]) == 2
    assert message in capsys.readouterr().err


def test_a_cluster_that_does_not_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("ray")
    line = ["submit", "--address", NOWHERE, "--", "protect", "/in", str(tmp_path / "out"), *RANDOM]
    assert main(line) == 2
    assert f"no Ray job server answers at {NOWHERE}" in capsys.readouterr().err


def test_options_of_a_file_are_seen(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("input: /in\noutput: /out\nworkers: 3\n")
    name, request = parse(["protect", "--config", str(file), "--seed", "4"])
    assert name == "protect"
    assert request == ProtectConfig("/in", "/out", workers=3, seed=4)


def test_the_job_may_take_as_long_to_stop_as_it_was_given(tmp_path: Path) -> None:
    file = tmp_path / "env.yaml"
    file.write_text("pip: [boto3]\nenv_vars: {A: b}\n")
    config = SubmitConfig(("status", "/o"), runtime_env=str(file), stop_seconds=89.5)
    assert _runtime_env(config) == {
        "pip": ["boto3"],
        "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "90", "A": "b"},
    }


@pytest.mark.parametrize(
    ("status", "code", "stopped", "complete", "was_complete", "expected"),
    [
        ("SUCCEEDED", 0, 0, True, False, 0),
        ("SUCCEEDED", 0, 0, True, True, 0),
        ("SUCCEEDED", 0, 0, False, False, 3),
        ("FAILED", 2, 0, True, True, 2),
        ("FAILED", 3, 0, True, False, 3),
        ("FAILED", 3, 0, False, False, 3),
        # Killed after its work was done, and before.
        ("FAILED", -9, 0, True, False, 0),
        ("FAILED", 137, 0, False, False, 3),
        ("FAILED", None, 0, True, False, 0),
        ("FAILED", None, 0, True, True, 3),
        ("STOPPED", None, 0, False, False, 143),
        ("STOPPED", None, 130, False, False, 130),
        ("STOPPED", None, 143, True, False, 0),
        (None, None, 0, True, False, 0),
        (None, None, 0, False, False, 3),
    ],
)
def test_the_end_of_a_job(
    status: str | None, code: int | None, stopped: int, complete: bool, was_complete: bool,
    expected: int, corpus: Path, tmp_path: Path,
) -> None:  # fmt: skip
    details = None
    if status is not None:
        job = pytest.importorskip("ray.job_submission")
        details = job.JobDetails(
            type="SUBMISSION", entrypoint="x", status=status, driver_exit_code=code
        )
    output = tmp_path / "out"
    request = ProtectConfig(str(corpus), str(output), slice=None if complete else "0/2")
    protect(ProtectConfig(**{**vars(request), "method": "random"}))
    found = _exit_code(details, str(output), was_complete=was_complete, stopped=stopped)
    assert found == expected


def test_without_a_ledger_the_exit_code_of_the_command_is_all_there_is() -> None:
    assert _exit_code(None, None, was_complete=False, stopped=0) == 1
    assert _exit_code(None, None, was_complete=False, stopped=130) == 130
