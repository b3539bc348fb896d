from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unlearnable.jobs.cli import main
from unlearnable.pipeline.data.images import decode
from unlearnable.pipeline.data.resize import resize_corpus
from unlearnable.pipeline.data.shards import Member, Sample, open_shard, write_shard
from unlearnable.pipeline.errors import ShardError, UsageError

RNG = np.random.default_rng(0)


def picture(height: int, width: int, fmt: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (height, width, 3), np.uint8)).save(buffer, fmt)
    return buffer.getvalue()


def sample(key: str, **members: bytes) -> Sample:
    return Sample(key, tuple(Member(f"{key}.{ext}", ext, data) for ext, data in members.items()), 0)


def read(path: Path) -> list[Sample]:
    with open_shard(str(path)) as reader:
        return list(reader)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two shards, more samples in the first than one chunk holds."""
    folder = tmp_path / "in"
    folder.mkdir()
    many = [sample(f"a/{row:03d}", txt=b"x", png=picture(20, 33)) for row in range(70)]
    write_shard(folder / "a.tar", many)
    other = [
        sample("z", jpg=picture(224, 224, "JPEG"), txt=b" a dog\n", json=b'{"id": 1}'),
        sample("b", cls=b"7", txt=b"a cat", jpeg=picture(90, 61, "JPEG")),
    ]
    write_shard(folder / "b.tar", other)
    return folder


def test_the_copy_differs_in_its_pictures_only(source: Path, tmp_path: Path) -> None:
    assert main(["data", "resize", str(source), str(tmp_path / "out"), "--size", "32"]) == 0
    assert sorted(os.listdir(tmp_path / "out")) == ["a.tar", "b.tar"]
    for name in ("a.tar", "b.tar"):
        before, after = read(source / name), read(tmp_path / "out" / name)
        assert [one.key for one in before] == [one.key for one in after]
        for old, new in zip(before, after, strict=True):
            for one, two in zip(old.members, new.members, strict=True):
                if one.ext in ("png", "jpg", "jpeg"):
                    assert two.name == f"{old.key}.png"
                    assert two.data.startswith(b"\x89PNG")
                    assert decode(two.data).pixels.shape == (32, 32, 3)
                else:
                    assert two == one


def test_a_square_photo_becomes_what_pillow_makes_of_it(source: Path, tmp_path: Path) -> None:
    resize_corpus(str(source / "b.tar"), str(tmp_path / "out"))
    with Image.open(io.BytesIO(read(source / "b.tar")[0].members[0].data)) as photo:
        expected = photo.resize((64, 64), Image.Resampling.BICUBIC)
    with Image.open(io.BytesIO(read(tmp_path / "out" / "b.tar")[0].members[0].data)) as small:
        assert small.mode == "RGB"
        assert small.tobytes() == expected.tobytes()


def test_the_middle_of_a_longer_side_is_kept(tmp_path: Path) -> None:
    stripes = np.zeros((16, 48, 3), np.uint8)
    stripes[:, 16:32] = (255, 0, 0)
    buffer = io.BytesIO()
    Image.fromarray(stripes).save(buffer, "PNG")
    (tmp_path / "in").mkdir()
    write_shard(tmp_path / "in" / "a.tar", [sample("k", png=buffer.getvalue())])
    resize_corpus(str(tmp_path / "in" / "a.tar"), str(tmp_path / "new" / "out"), size=16)
    small = decode(read(tmp_path / "new" / "out" / "a.tar")[0].members[0].data).pixels
    assert (small == (255, 0, 0)).all()


def test_equal_input_gives_equal_bytes_in_any_store(source: Path, tmp_path: Path) -> None:
    remote = f"memory://{tmp_path.name}"
    resize_corpus(f"{source}/{{a,b}}.tar", remote, size=16, image_format="same")
    resize_corpus(remote, str(tmp_path / "twice"), size=16, image_format="png")
    resize_corpus(str(source), str(tmp_path / "once"), size=16, image_format="png")
    once, twice = ((tmp_path / name / "a.tar").read_bytes() for name in ("once", "twice"))
    assert once == twice
    resize_corpus(remote, str(tmp_path / "same"), size=16, image_format="same")
    exts = [member.ext for one in read(tmp_path / "same" / "b.tar") for member in one.members]
    assert exts == ["jpg", "txt", "json", "cls", "txt", "jpeg"]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (
            {"png": b"<html>", "txt": b"x"},
            r"b\.tar: bad: the bytes are no picture of a known format",
        ),
        ({"txt": b"x"}, r"b\.tar: bad: no image"),
        ({"png": b"1", "left.png": b"2"}, r"b\.tar: bad: 2 images"),
    ],
)
def test_a_bad_sample_is_named_and_nothing_is_left(
    source: Path, tmp_path: Path, bad: dict[str, bytes], message: str
) -> None:
    with_bad = [*read(source / "b.tar"), sample("bad", **bad)]
    write_shard(source / "b.tar", with_bad)
    with pytest.raises(UsageError, match=message):
        resize_corpus(str(source), str(tmp_path / "out"))
    assert os.listdir(tmp_path) == ["in"]


def test_a_cut_shard_leaves_nothing(source: Path, tmp_path: Path) -> None:
    data = (source / "b.tar").read_bytes()
    (source / "b.tar").write_bytes(data[: len(data) // 2])
    with pytest.raises(ShardError, match="truncated"):
        resize_corpus(str(source), str(tmp_path / "out"))
    assert os.listdir(tmp_path) == ["in"]


def test_what_is_refused(source: Path, tmp_path: Path) -> None:
    for out in (source, source / "small"):
        with pytest.raises(UsageError, match="is inside the input"):
            resize_corpus(str(source / "*.tar"), str(out))
    with pytest.raises(UsageError, match="between 16 and 2048"):
        resize_corpus(str(source), str(tmp_path / "out"), size=8)
    with pytest.raises(UsageError, match="unknown image format 'gif'"):
        resize_corpus(str(source), str(tmp_path / "out"), image_format="gif")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(UsageError, match="not an empty folder"):
        resize_corpus(str(source), str(tmp_path / "out"))
    assert os.listdir(tmp_path / "out") == ["mine"]
