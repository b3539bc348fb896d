"""Limits of the machine: a full disk, and memory that must not depend on the corpus."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from processes import PEAK

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


# Peaks of equal runs differ by some 5 MB.
_NOISE_MEGABYTES = 20

_PROTECT = """
import sys
from unlearnable.pipeline.execution.config import ProtectConfig
from unlearnable.pipeline.execution.protect import protect
source, output, method, surrogate = sys.argv[1:]
options = {"method": method, "surrogate": surrogate or None, "executor": "local"}
assert protect(ProtectConfig(source, output, **options)).exit_code == 0
print(peak() / 1024)
"""


def peak_megabytes(source: str, output: Path, method: str, surrogate: str) -> float:
    line = [sys.executable, "-c", PEAK + _PROTECT, source, str(output), method, surrogate]
    # Freed tensors go back at once: else glibc keeps a changing 50 MB to 100 MB of them.
    env = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(line, capture_output=True, text=True, check=True, env=env)
    shutil.rmtree(output)
    return float(done.stdout.split()[-1])


@pytest.fixture(scope="module")
def sizes(
    build_shards: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[int, int], str]:
    """Inputs by (shards, samples a shard), 32 pixels a side."""
    folder = tmp_path_factory.mktemp("sizes")
    many = build_shards(folder / "many", shards=16, samples=1000, size=32)
    large = build_shards(folder / "large", shards=1, samples=10_000, size=32)
    return {
        (1, 1000): f"{many}/shard-000.tar",
        (4, 1000): f"{many}/shard-00[0-3].tar",
        (16, 1000): str(many),
        (1, 10_000): str(large),
    }


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("method", ["random", "mem"])
def test_memory_does_not_grow_with_shards_or_shard_size(
    sizes: dict[tuple[int, int], str],
    surrogate: str,
    method: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Rows of a manifest, were they held to the end of a shard, are 35 MB at 10,000 samples.

    `pytest -m slow -k memory tests/pipeline/execution/test_limits.py` prints the figures.
    """
    artifact = surrogate if method == "mem" else ""
    peaks = {
        size: peak_megabytes(source, tmp_path / "out", method, artifact)
        for size, source in sizes.items()
    }
    with capsys.disabled():
        print(f"\n| {method}: shards | samples a shard | peak resident memory, MB |\n|---|---|---|")
        for (shards, samples), peak in peaks.items():
            print(f"| {shards} | {samples} | {peak:.0f} |")
    assert max(peaks.values()) < peaks[1, 1000] + _NOISE_MEGABYTES
