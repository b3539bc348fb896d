"""Locks of files and folders: one process holds them, its death frees them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from unlearnable.pipeline.data.local_files import lock

HOLDER = """
import sys
from pathlib import Path
from unlearnable.pipeline.data.local_files import lock
with lock(Path(sys.argv[1])) as held:
    print(held, flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("is_folder", [False, True])
def test_one_process_holds_a_lock_until_it_dies(is_folder: bool, tmp_path: Path) -> None:
    path = tmp_path / "locked"
    if is_folder:
        path.mkdir()
    line = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "True\n"
        with lock(path) as held:
            assert not held
        other.kill()
        other.wait()
    with lock(path) as held:
        assert held


def test_a_file_that_was_removed_is_not_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between open and lock a cleaner removes the file: another process would lock a new one."""
    import fcntl

    path, take = tmp_path / "locked", fcntl.flock

    def remove_first(handle: int, how: int) -> None:
        path.unlink()
        take(handle, how)

    monkeypatch.setattr(fcntl, "flock", remove_first)
    with lock(path) as held:
        assert not held
