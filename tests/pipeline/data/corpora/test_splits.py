from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from unlearnable.pipeline.data.corpora.photos import Photo
from unlearnable.pipeline.data.corpora.splits import assign_splits
from unlearnable.pipeline.errors import UsageError

PHOTOS = [Photo(Path(f"Images/{key}.jpg"), key) for key in ("a", "b", "c", "d")]


def keys(*specs: str) -> dict[str, str]:
    groups = assign_splits(PHOTOS, specs)
    return {split: "".join(photo.key for photo in photos) for split, photos in groups.items()}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_lists_of_names_with_and_without_extension() -> None:
    Path("test.txt").write_text("c.jpg\n\n b \n")
    Path("dev=1.txt").write_text("\ufeffImages/d.jpg\r\n")
    assert keys() == {"train": "abcd"}
    assert keys("test=test.txt") == {"train": "ad", "test": "bc"}
    assert keys("test=test.txt", "dev=dev=1.txt") == {"train": "a", "test": "bc", "dev": "d"}


def test_with_a_list_for_train_the_rest_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    Path("train.txt").write_text("c\nb")
    assert keys("train=train.txt") == {"train": "bc"}
    assert "2 images are in no split and left out, e.g. a.jpg" in caplog.text


def test_karpathys_file() -> None:
    images: list[dict[str, Any]] = [
        {"filename": "a.jpg", "split": "train"},
        {"filename": "c.jpg", "split": "restval"},
        {"filename": "b.jpg", "split": "val"},
    ]
    Path("k.json").write_text(str({"images": images, "dataset": "x"}).replace("'", '"'))
    assert keys("k.json") == {"train": "ac", "val": "b"}


@pytest.mark.parametrize(
    ("specs", "files", "message"),
    [
        (["test=t"], {"t": "a\nx.jpg\ny"}, r"t line 2: 'x\.jpg' is no image .*\(2 such entries"),
        (["test=t"], {"t": "a\nb\na.jpg"}, r"t line 3: 'a\.jpg' comes a second time; .*t line 1"),
        (
            ["test=t", "val=v"],
            {"t": "a", "v": "b\na"},
            r"v line 2: 'a' comes a second time; it is in the split 'test' by t line 1",
        ),
        (["test=none"], {}, "cannot read none: No such file"),
        (["none.json"], {}, r"cannot read none\.json: No such file"),
        (["t"], {"t": "a"}, "--splits t: give Karpathy's JSON file"),
        (["test="], {}, "--splits test=: give Karpathy's JSON file"),
        (["../x=t"], {"t": "a"}, r"--splits \.\./x=t: '\.\./x' cannot name a split"),
        (["k.json"], {"k.json": "{\n\n]"}, r"k\.json line 3: not JSON"),
        (["k.json"], {"k.json": "{}"}, r"k\.json has no list 'images'"),
        (["k.json"], {"k.json": '{"images": [{"split": "x"}]}'}, r"k\.json images\[0\]: 'filename"),
        (
            ["k.json"],
            {"k.json": '{"images": [{"filename": "a.jpg", "split": "a/b"}]}'},
            r"k\.json images\[0\]: 'a/b' cannot name a split",
        ),
        (
            ["k.json"],
            {"k.json": '{"images": [{"filename": "z.jpg", "split": "val"}]}'},
            r"k\.json images\[0\]: 'z\.jpg' is no image of this corpus",
        ),
    ],
)
def test_bad_splits(specs: list[str], files: dict[str, str], message: str) -> None:
    for name, text in files.items():
        Path(name).write_text(text)
    with pytest.raises(UsageError, match=message):
        keys(*specs)
