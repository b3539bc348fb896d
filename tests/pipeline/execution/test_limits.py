"""Limits of the machine: a full disk, and memory that must not depend on the corpus."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

# A disk of its own that is too small for the output, and is made larger before the second run.
_ON_A_SMALL_DISK = """
mount -t tmpfs -o size=220k small "$1" || exit 77
shift
"$@"
first=$?
find "$0" -name '_SUCCESS' -o -name '.*' -o -size 0 -type f | grep . && exit 78
mount -o remount,size=64m small || exit 77
"$@" || exit 79
exit $first
"""


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare to mount a small disk")
def test_a_full_disk_commits_nothing_half_and_resumes(corpus: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    run = [sys.executable, "-m", "unlearnable", "protect", str(corpus), str(disk / "out")]
    line = ["unshare", "--map-root-user", "--mount", "sh", "-c", _ON_A_SMALL_DISK, str(disk)]
    done = subprocess.run(
        [*line, str(disk), *run, "--method", "random", "--executor", "local"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode in {1, 77}:
        pytest.skip(f"cannot mount here: {done.stderr}")
    assert done.returncode == 3, (done.returncode, done.stdout, done.stderr)
    assert "no space left" in done.stderr
    assert "not committed" in done.stderr
    assert "4 of 4 shards" in done.stdout


_PEAK = """
import resource, sys
from unlearnable.pipeline.execution.config import ProtectConfig
from unlearnable.pipeline.execution.run import protect
summary = protect(ProtectConfig(sys.argv[1], sys.argv[2], method="random", executor="local"))
assert summary.exit_code == 0
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_memory_does_not_grow_with_shards_or_shard_size(
    build_shards: Callable[..., Path], tmp_path: Path
) -> None:
    """At 112 px, 9,000 samples more would be 340 MB of pixels, were they held."""
    peaks = {}
    for shards, samples in ((1, 1000), (4, 1000), (16, 1000), (1, 10_000)):
        source = build_shards(tmp_path / "in", shards=shards, samples=samples, size=112)
        line = [sys.executable, "-c", _PEAK, str(source), str(tmp_path / "out")]
        done = subprocess.run(line, capture_output=True, text=True, check=True)
        peaks[shards, samples] = int(done.stdout.split()[-1])
        shutil.rmtree(source)
        shutil.rmtree(tmp_path / "out")
    print(peaks)
    first = peaks[1, 1000]
    assert peaks[4, 1000] < first + 40
    assert peaks[16, 1000] < first + 40
    # What is left to grow is the manifest: a row a sample, not its pixels.
    assert peaks[1, 10_000] < first + 60
