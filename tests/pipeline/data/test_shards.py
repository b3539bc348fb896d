from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import pytest
import webdataset
from hypothesis import given, settings
from hypothesis import strategies as st

from unlearnable.pipeline.data.shards import (
    Limits,
    Member,
    Sample,
    ShardReader,
    ShardWriter,
    open_shard,
    split_name,
    write_shard,
)
from unlearnable.pipeline.errors import SampleError, ShardError, UsageError


def make_samples(count: int, members: tuple[str, ...] = ("png", "txt")) -> list[Sample]:
    return [
        Sample(
            f"k{row:04d}",
            tuple(
                Member(f"k{row:04d}.{ext}", ext, f"{row} {ext}".encode() * 99) for ext in members
            ),
            row,
        )
        for row in range(count)
    ]


def pack(*files: tuple[str, bytes] | tarfile.TarInfo, fmt: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=fmt) as tar:
        for file in files:
            if isinstance(file, tarfile.TarInfo):
                tar.addfile(file)
            else:
                info = tarfile.TarInfo(file[0])
                info.size = len(file[1])
                tar.addfile(info, io.BytesIO(file[1]))
    return buffer.getvalue()


def read(data: bytes, limits: Limits | None = None) -> list[Sample]:
    return list(ShardReader(io.BytesIO(data), limits or Limits(), "x.tar"))


def special(name: str, **attributes: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for attribute, value in attributes.items():
        setattr(info, attribute, value)
    return info


@pytest.mark.parametrize("count", [0, 1, 2, 200])
def test_round_trip(tmp_path: Path, count: int) -> None:
    samples = make_samples(count)
    sha256, size = write_shard(tmp_path / "a.tar", samples)
    data = (tmp_path / "a.tar").read_bytes()
    assert (hashlib.sha256(data).hexdigest(), len(data)) == (sha256, size)
    with open_shard(str(tmp_path / "a.tar")) as reader:
        assert list(reader) == samples
        assert (reader.sha256, reader.size) == (sha256, size)


NAMES = st.text(
    st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="/\\."),
    min_size=1,
    max_size=150,
).filter(lambda name: not name.startswith("__"))


@settings(max_examples=30)
@given(st.dictionaries(NAMES, st.binary(max_size=2000), max_size=3))
def test_any_key_and_content_survive(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]
) -> None:
    path = tmp_path_factory.mktemp("any") / "a.tar"
    samples = [
        Sample(f"d/{key}", (Member(f"d/{key}.x.y", "x.y", data),), row)
        for row, (key, data) in enumerate(files.items())
    ]
    write_shard(path, samples)
    assert read(path.read_bytes()) == samples
    with tarfile.open(path) as tar:
        assert [info.name for info in tar] == [f"d/{key}.x.y" for key in files]


def test_headers_say_nothing_about_the_machine(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tar", make_samples(1))
    with tarfile.open(tmp_path / "a.tar") as tar:
        for info in tar:
            assert (info.mtime, info.uid, info.gid, info.mode) == (0, 0, 0, 0o644)
            assert (info.uname, info.gname) == ("", "")
    assert (tmp_path / "a.tar").read_bytes()[257:263] == b"ustar\0"


def test_webdataset_reads_what_is_written_and_groups_alike(tmp_path: Path) -> None:
    data = pack(
        ("a/x.left.PNG", b"1"), ("a/x.txt", b"2"), ("__meta__/a.txt", b"3"), ("README", b"4"),
        (".DS_Store", b"5"), ("b.c/y.png", b"6"), ("b.c/y.json.gz", b"7"),
    )  # fmt: skip
    (tmp_path / "a.tar").write_bytes(data)
    theirs = [
        {name: value for name, value in sample.items() if name not in ("__url__", "__local_path__")}
        for sample in webdataset.WebDataset(str(tmp_path / "a.tar"), shardshuffle=False)
    ]
    reader = ShardReader(io.BytesIO(data), Limits())
    ours = [{"__key__": s.key, **{m.ext: m.data for m in s.members}} for s in reader]
    assert ours == theirs


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.png", ("a", "png")),
        ("a.B.PNG", ("a", "b.png")),
        ("d.e/a.png", ("d.e/a", "png")),
        ("./a.png", ("./a", "png")),
        ("a", None),
        (".hidden", None),
        ("d/.png", None),
        ("__x__.png", ("__x__", "png")),
        ("__x__/a.png", None),
    ],
)
def test_split_name(name: str, expected: tuple[str, str] | None) -> None:
    assert split_name(name) == expected


@pytest.mark.parametrize("fmt", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_tar_format(fmt: int) -> None:
    long = "d" * 60 + "/" + "n" * 90 + ".txt"
    assert [sample.members[0].name for sample in read(pack((long, b"x"), fmt=fmt))] == [long]


def test_every_truncation_is_found() -> None:
    samples = make_samples(3)
    data = pack(*((m.name, m.data) for s in samples for m in s.members))
    end = len(data.rstrip(b"\0"))
    end += -end % 512
    assert read(data[: end + 1024]) == samples
    cuts = [*range(0, end + 1024, 512), *range(1, end + 1024, 217)]
    for cut in cuts:
        with pytest.raises(ShardError, match=r"^x\.tar: (truncated|not a tar)"):
            read(data[:cut])


def test_zeros_inside_the_last_member_are_no_end_marker() -> None:
    data = pack(("a.bin", bytes(4096)))
    with pytest.raises(ShardError, match="no end marker"):
        read(data[: 512 + 4096])


@pytest.mark.parametrize(
    "data", [b"", b"hello", b"\x1f\x8b" + bytes(range(256)) * 9, b"<html>" * 999]
)
def test_no_tar(data: bytes) -> None:
    with pytest.raises(ShardError, match="not a tar archive"):
        read(data)


def test_a_second_archive_behind_the_first() -> None:
    data = pack(("a.txt", b"x"))
    with pytest.raises(ShardError, match="followed by other data"):
        read(data + pack(("b.txt", b"y")))


def test_a_damaged_header_in_the_middle() -> None:
    data = bytearray(pack(("a.txt", b"x"), ("b.txt", b"y"), ("c.txt", b"z")))
    data[1024 + 148] ^= 0xFF
    with pytest.raises(ShardError, match="damaged"):
        read(bytes(data))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["a.png", "a.txt", "a.png"], "'a.png' is repeated"),
        (["a.png", "a.PNG"], "'a.PNG' is repeated"),
        (["a.png", "b.png", "a.txt"], "'a' comes back after other keys"),
        (["a.png", "b.png", "a.png"], "'a' comes back after other keys"),
    ],
)
def test_repeated_and_interleaved_keys(files: list[str], message: str) -> None:
    with pytest.raises(ShardError, match=message):
        read(pack(*((name, b"x") for name in files)))


@pytest.mark.parametrize(
    "name", ["/etc/a.txt", "../a.txt", "d/../../a.txt", "d\\a.txt", "a\n.txt", "n" * 2000 + ".txt"]
)
def test_unsafe_names(name: str) -> None:
    with pytest.raises(ShardError, match="unsafe"):
        read(pack((name, b"x")))


def test_a_name_that_is_not_utf8() -> None:
    data = pack(("aXY.txt", b"x"), fmt=tarfile.USTAR_FORMAT).replace(b"aXY.txt", b"a\xff\xfe.txt")
    header = bytearray(data[:512])
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    with pytest.raises(ShardError, match="unsafe"):
        read(bytes(header) + data[512:])


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices(kind: bytes) -> None:
    with pytest.raises(ShardError, match="only regular files"):
        read(pack(("a.png", b"x"), special("a.txt", type=kind, linkname="a.png")))


def test_directories_are_passed_over() -> None:
    data = pack(special("d", type=tarfile.DIRTYPE), ("d/a.txt", b"x"))
    assert [sample.key for sample in read(data)] == ["d/a"]


def test_files_of_no_sample_are_counted() -> None:
    files = [(name, b"x") for name in ("img/1", "a.png", ".hidden", "__metadata__", "README")]
    reader = ShardReader(io.BytesIO(pack(*files)), Limits())
    assert [sample.key for sample in reader] == ["a"]
    assert (reader.left_out, reader.first_left_out) == (3, "img/1")


def test_a_sparse_file() -> None:
    headers = {"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.map": "0,1",
               "GNU.sparse.size": "1000000000000"}  # fmt: skip
    with pytest.raises(ShardError, match="sparse"):
        read(pack(special("a.txt", pax_headers=headers)))


def test_a_negative_size_does_not_loop() -> None:
    with pytest.raises(ShardError):
        read(pack(("a.txt", b"x"), special("b.txt", pax_headers={"size": "-1024"})))


def test_a_giant_extended_header_is_not_read() -> None:
    info = special("x", type=tarfile.XHDTYPE, size=1 << 40)
    with pytest.raises(ShardError, match="declares"):
        read(info.tobuf(tarfile.GNU_FORMAT) + bytes(4096))


@pytest.mark.parametrize("name", ["a.png", ".hidden"])
def test_a_giant_file_that_is_not_there_is_not_skipped_for_ever(name: str) -> None:
    info = special(name, size=1 << 60)
    with pytest.raises(ShardError, match=r"truncated"):
        read(info.tobuf(tarfile.GNU_FORMAT) + bytes(2048))


def test_a_truncated_sparse_header() -> None:
    header = bytearray(special("a.png", type=tarfile.GNUTYPE_SPARSE).tobuf(tarfile.GNU_FORMAT))
    header[482] = 1
    header[148:156] = b"%06o\0 " % tarfile.calc_chksums(bytes(header))[0]
    with pytest.raises(ShardError):
        read(bytes(header))


@pytest.mark.parametrize(
    "limits", [Limits(max_member_bytes=50), Limits(max_sample_bytes=70), Limits(max_members=2)]
)
def test_a_sample_over_the_limits_fails_alone(limits: Limits) -> None:
    big = [("b.png", b"x" * 60), ("b.txt", b"y" * 20), ("b.json", b"z")]
    data = pack(("a.txt", b"1"), *big, ("c.txt", b"2"))
    first, second, third = read(data, limits)
    assert (first.problem, third.problem) == (None, None)
    assert (first.key, second.key, third.key) == ("a", "b", "c")
    with pytest.raises(SampleError, match="limits of a sample") as caught:
        second.check()
    assert caught.value.reason == "sample_too_large"


def test_short_reads_of_the_stream() -> None:
    class Dripping(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(min(size or 0, 700))

    samples = make_samples(40)
    data = pack(*((m.name, m.data) for s in samples for m in s.members))
    reader = ShardReader(Dripping(data), Limits())
    assert list(reader) == samples
    assert reader.sha256 == hashlib.sha256(data).hexdigest()


def test_a_missing_or_unreadable_shard(tmp_path: Path) -> None:
    (tmp_path / "b.tar").mkdir()
    for name, message in (
        ("a.tar", "the shard is missing"),
        ("b.tar", "is a folder, not a .tar file"),
    ):
        with (
            pytest.raises(ShardError, match=rf"{name}: {message}"),
            open_shard(str(tmp_path / name)),
        ):
            pass


def test_a_failed_writer_leaves_no_file(tmp_path: Path) -> None:
    unwritable = Sample("k", (Member("\ud800.txt", "txt", b""),), 0)
    with pytest.raises(UnicodeEncodeError), ShardWriter(tmp_path / "a.tar") as writer:
        writer.write(unwritable)
    assert not (tmp_path / "a.tar").exists()


def test_no_space_left() -> None:
    with pytest.raises(UsageError, match="no space left; free some"):
        write_shard("/dev/full", make_samples(700))
