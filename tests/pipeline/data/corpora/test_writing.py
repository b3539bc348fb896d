from __future__ import annotations

import uuid

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from unlearnable.pipeline.data import storage
from unlearnable.pipeline.data.corpora.writing import write_corpus
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
