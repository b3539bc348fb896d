from __future__ import annotations

import os
import shutil
import subprocess
import sys
import uuid
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from unlearnable.pipeline.data import storage
from unlearnable.pipeline.data.corpora.writing import staged, write_corpus
from unlearnable.pipeline.data.shards import Member, Sample

SAMPLES = [Sample(key, (Member(f"{key}.txt", "txt", b"x"),), 0) for key in "abc"]


class FullStore(MemoryFileSystem):
    """Takes two files, refuses the third."""

    protocol = "full"
    taken = 0

    def put_file(self, lpath: str, rpath: str, *args: object, **kwargs: object) -> None:
        FullStore.taken += 1
        if FullStore.taken > 2:
            raise PermissionError("the quota of the bucket is used up")
        super().put_file(lpath, rpath, *args, **kwargs)


@pytest.mark.parametrize(("size", "names"), [(1, []), (2, ["train-000.tar", "train-001.tar"])])
def test_a_store_holds_the_whole_corpus_or_nothing(
    monkeypatch: pytest.MonkeyPatch, size: int, names: list[str]
) -> None:
    fsspec.register_implementation("full", FullStore, clobber=True)
    monkeypatch.setattr(FullStore, "taken", 0)
    out = f"full://{uuid.uuid4().hex}/out"
    if names:
        write_corpus(out, {"train": SAMPLES}, size)
    else:
        with pytest.raises(PermissionError, match="quota"):
            write_corpus(out, {"train": SAMPLES}, size)
        assert FullStore.taken == 3
    assert storage.list_names(out) == names


@pytest.mark.parametrize("kind", ["folder", "link"])
def test_a_folder_that_is_there_is_filled_and_not_replaced(kind: str, tmp_path: Path) -> None:
    """It may be a mount point, or a link to another disk."""
    folder, out = tmp_path / "disk" / "folder", tmp_path / "out"
    folder.mkdir(parents=True)
    out = folder if kind == "folder" else out
    if kind == "link":
        out.symlink_to(folder)
    before = folder.stat().st_ino
    for _ in range(2):
        assert write_corpus(str(out), {"train": SAMPLES}, 2) == {"train": 3}
        assert sorted(os.listdir(folder)) == ["train-000.tar", "train-001.tar"]
    assert folder.stat().st_ino == before
    assert out.is_symlink() == (kind == "link")


def test_what_a_killed_call_left_is_cleared_away(tmp_path: Path) -> None:
    script = (
        "import os, sys\n"
        "from unlearnable.pipeline.data.corpora.writing import staged\n"
        "with staged(sys.argv[1]) as folder:\n"
        "    (folder / 'x.tar').write_bytes(b'x')\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    out = tmp_path / "out"
    for there in (False, True):
        if there:
            shutil.rmtree(out)
            out.mkdir()
        done = subprocess.run([sys.executable, "-c", script, str(out)], check=False)
        assert done.returncode == -9
        assert [path.name for path in tmp_path.rglob("*.tmp")]
        with staged(str(out)) as living:
            assert write_corpus(str(out), {"train": SAMPLES}, 2) == {"train": 3}
            assert list(tmp_path.rglob("*.tmp")) == [living]
            for file in out.glob("*.tar"):
                shutil.copy(file, living)
        assert not [path.name for path in tmp_path.rglob("*.tmp")]
