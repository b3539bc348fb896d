"""What tests of the command line share."""

from __future__ import annotations

import pytest
from runs import Run


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Run:
    """Run `unlearnable` here; return its exit code and all that it tells."""
    from unlearnable.jobs.cli import main

    def command(*line: object) -> tuple[int, str]:
        caplog.clear()
        code = main([*map(str, line)])
        captured = capsys.readouterr()
        return code, captured.out + captured.err + caplog.text

    return command
