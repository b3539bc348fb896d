from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_evaluate_with_workers_stops_when_told(
    corpus: Path, tmp_path: Path, signum: signal.Signals, code: int
) -> None:
    command = [sys.executable, "-m", "unlearnable", "evaluate", "--train", f"clean={corpus}"]
    command += ["--test", str(corpus), "--output", str(tmp_path / "results.json")]
    command += ["--workers", "2", "--seeds", "0,1", "--epochs", "100000", "--batch-size", "4"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as run:
        assert run.stderr is not None
        for line in run.stderr:
            if "epoch 1 of" in line:
                break
        run.send_signal(signum)
        assert run.wait(timeout=60) == code
