"""The preStop of a head pod, in a process namespace of its own like that of a pod."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from runs import kept

DRAIN = Path(__file__).resolve().parents[3] / "jobs" / "kubernetes" / "drain.sh"
UNSHARE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]


def why_not() -> str:
    for name in ("unshare", "pkill"):
        if shutil.which(name) is None:
            return f"{name} is not installed; Debian: util-linux, procps"
    done = subprocess.run([*UNSHARE, "true"], capture_output=True, check=False)
    return "" if done.returncode == 0 else "this user may not make a process namespace"


pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "can run")


def in_a_pod(script: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run ``script`` where it sees no process but its own."""
    tools = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": tools, "DRAIN": str(DRAIN), **variables}
    return subprocess.run(
        [*UNSHARE, "bash", "-c", textwrap.dedent(script)],
        env=environment, cwd=folder, capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip


@pytest.mark.slow
def test_a_head_that_is_ended_drains_its_driver(
    build_shards: Callable[..., Path], tmp_path: Path
) -> None:
    build_shards(tmp_path / "in", shards=12, samples=24, size=256)
    done = in_a_pod(
        """
        unlearnable protect in out --method random --executor local &
        until ls out-record/_ledger/shard-001.json; do sleep 0.1; done 2> /dev/null
        "$DRAIN" head || exit 99
        wait $!
        """,
        tmp_path,
    )
    assert done.returncode == 143, done.stderr
    assert "SIGTERM: what is in work has 20 s to end" in done.stderr
    output = tmp_path / "out"
    assert list(kept(output).glob("_lease/*")) == []
    (log,) = kept(output).glob("_log/*.jsonl")
    kinds = [json.loads(line)["event"] for line in log.read_text().splitlines()]
    begun = kinds.count("shard_begun")
    assert begun == len(list(kept(output).glob("_ledger/*.json"))) < 12, "what was begun was ended"


def test_a_driver_that_does_not_end_is_waited_for_as_long_as_told(tmp_path: Path) -> None:
    stubborn = tmp_path / "python3"
    stubborn.symlink_to(os.path.realpath(sys.executable))
    code = (
        "import signal, time; signal.signal(15, signal.SIG_IGN); print(flush=True); time.sleep(9)"
    )
    (tmp_path / "unlearnable").write_text(code)
    done = in_a_pod(
        """
        ./python3 ./unlearnable protect in out > ready &
        until [ -s ready ]; do sleep 0.1; done
        "$DRAIN" head
        [ $SECONDS -lt 8 ] && kill -0 $! && exit 55
        """,
        tmp_path,
        SECONDS_LEFT="2",
    )
    assert done.returncode == 55, done.stderr


def test_without_a_driver_there_is_nothing_to_wait_for(tmp_path: Path) -> None:
    assert in_a_pod('"$DRAIN" head && [ $SECONDS -lt 5 ]', tmp_path).returncode == 0
    assert in_a_pod('"$DRAIN"', tmp_path).returncode == 2
