"""Scratch folders: gone with their owners, however these end."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from unlearnable.pipeline.execution.worker.scratch import remove_dead, scratch_folder

_HOLD = """
import sys, time
from unlearnable.pipeline.execution.worker.scratch import scratch_folder
with scratch_folder() as folder:
    (folder / "half.tar").write_bytes(b"half")
    print(folder, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def temp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def test_a_folder_vanishes_after_use(temp: Path) -> None:
    with scratch_folder() as folder:
        (folder / "file").write_bytes(b"x")
    assert not [path for path in temp.rglob("*") if path.parent != temp]


def test_the_folder_of_a_killed_process_is_removed_and_that_of_a_living_one_kept(
    temp: Path,
) -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", _HOLD], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    try:
        folders = []
        for process in processes:
            assert process.stdout is not None
            folders.append(Path(process.stdout.readline().strip()))
        processes[0].kill()
        processes[0].wait()
        assert folders[0].is_dir()
        remove_dead()
        assert not folders[0].exists()
        assert (folders[1] / "half.tar").read_bytes() == b"half"
    finally:
        for process in processes:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
