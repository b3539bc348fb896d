"""Compressed shards: read to the end, told from damaged ones, described by their stored bytes."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from unlearnable.pipeline.data.compression import shard_stem
from unlearnable.pipeline.data.expand import expand
from unlearnable.pipeline.data.plan import resolve_input
from unlearnable.pipeline.data.shards import open_shard
from unlearnable.pipeline.data.tar_stream import TarStream
from unlearnable.pipeline.errors import ShardError, UsageError

CODECS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": lambda data: pa.Codec("zstd").compress(data).to_pybytes(),
}


def archive(samples: int = 8) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for row in range(samples):
            info = tarfile.TarInfo(f"{row}.txt")
            info.size = 20_000
            tar.addfile(info, io.BytesIO(os.urandom(info.size)))
    return buffer.getvalue()


@pytest.mark.parametrize("codec", CODECS)
def test_a_compressed_shard_is_read_whole(codec: str, tmp_path: Path) -> None:
    plain = archive()
    path = tmp_path / f"a.tar.{codec}"
    path.write_bytes(CODECS[codec](plain))
    with open_shard(str(path)) as reader:
        samples = list(reader)
    assert [sample.key for sample in samples] == [str(row) for row in range(8)]
    assert [len(sample.members[0].data) for sample in samples] == [20_000] * 8
    assert reader.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert reader.size == path.stat().st_size


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
def test_a_cut_shard_is_an_error(codec: str, share: float) -> None:
    data = CODECS[codec](archive())
    entries = TarStream(io.BytesIO(data[: int(len(data) * share)]), "cut")
    with pytest.raises(ShardError, match="cut: "):
        _ = [entry.read() for entry in entries]


def test_an_error_of_the_store_stays_one() -> None:
    class Away(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() > 30_000:
                raise ConnectionResetError("the store has gone")
            return super().read(size)

    entries = TarStream(Away(gzip.compress(archive())), "x")
    with pytest.raises(ConnectionResetError):
        _ = [entry.read() for entry in entries]


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("a.tar", "a"),
        ("a.TAR", "a"),
        ("a.b.Tar.GZ", "a.b"),
        ("a.tgz", "a"),
        ("a.tar.zst", "a"),
        ("a.tbz2", "a"),
        ("a.TXZ", "a"),
        ("a.tzst", "a"),
        ("a.gz", None),
        ("a.tar.part", None),
    ],
)
def test_endings(name: str, stem: str | None) -> None:
    assert shard_stem(name) == stem


def test_a_folder_gives_all_its_shards_or_names_what_it_leaves_out(tmp_path: Path) -> None:
    for name in ("a.tar", "b.TAR", "c.tar.gz", "d.tgz", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    assert [shard.name for shard in resolve_input(str(tmp_path))] == ["a", "b", "c", "d"]
    (tmp_path / "notes").mkdir()
    assert len(expand(str(tmp_path))) == 4
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "e.tar.zst").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"sub-folders with shards \(more\): give .*\*\*") as error:
        expand(str(tmp_path))
    own = str(error.value).split(" or ")[1].split(" to leave")[0]
    assert len(expand(own)) == 4
    every = str(error.value).split("give ")[1].split(" for all")[0]
    assert len(expand(every)) == 5


def test_shards_far_below_are_named(tmp_path: Path) -> None:
    (tmp_path / "u" / "v" / "w").mkdir(parents=True)
    (tmp_path / "u" / "v" / "w" / "b.txz").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"some in u/v/w: use .*\*\*"):
        expand(str(tmp_path))
    (tmp_path / "a.tar").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"sub-folders with shards \(u/v/w\)"):
        expand(str(tmp_path))


TAR = bytes(257) + b"ustar" + bytes(250)


@pytest.mark.parametrize(
    ("odd", "data"),
    [("x.zip", b"x"), ("x.7z", b"x"), ("x.tar.lz4", b"x"), ("X.RAR", b"x"), ("x.cpio", b"x"),
     ("x.tar.lzo", b"x"), ("x.tar.part", TAR), ("x.tar.1", gzip.compress(TAR, mtime=0)),
     ("x.tar.bak", TAR),
     ("x", lzma.compress(TAR))],
)  # fmt: skip
def test_another_archive_beside_the_shards_is_named(odd: str, data: bytes, tmp_path: Path) -> None:
    for name in ("a.tar", odd):
        (tmp_path / name).write_bytes(data)
    (tmp_path / "a.tar.sha256").write_bytes(b"0" * 64)
    (tmp_path / "README").write_bytes(b"words")
    with pytest.raises(UsageError, match=f"{odd} beside its shards") as error:
        expand(str(tmp_path))
    own = str(error.value).split("give ")[1].split(" to leave")[0]
    assert expand(own) == [str(tmp_path / "a.tar")]


def test_two_shards_of_one_name_are_refused(tmp_path: Path) -> None:
    for name in ("a.tar", "a.tar.gz"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(UsageError, match="two shards are named a"):
        resolve_input(str(tmp_path))
