from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from unlearnable.jobs.cli import main
from unlearnable.pipeline.data.captions import read_captions
from unlearnable.pipeline.data.corpora.flickr import build_flickr8k
from unlearnable.pipeline.data.shards import open_shard
from unlearnable.pipeline.errors import UsageError

Contents = Callable[[Path], dict[str, dict[str, dict[str, Any]]]]
Plant = Callable[[dict[str, Any]], Path]

CAPTIONS = 'image,caption\nb_2.jpg,A dog .\nb_2.jpg,"A dog , wet"\na_1.jpg, Two ""cats"" \n'
NEW = {"captions.txt": CAPTIONS, "Images/a_1.jpg": None, "Images/b_2.jpg": None}
TOKENS = (
    "a_1.jpg#0\tTwo cats\nb_2.jpg#0\tA dog .\n2258277193_586949ec62.jpg.1#0\tNobody\n"
    "b_2.jpg#1\tA dog\twet\n"
)
OLD = {
    "Flickr8k.token.txt": TOKENS,
    "Flicker8k_Dataset/a_1.jpg": None,
    "Flicker8k_Dataset/b_2.jpg": None,
}


def test_captions_and_images(plant: Plant, contents: Contents, tmp_path: Path) -> None:
    src = plant(NEW | {"Images/.DS_Store": "x", "Images/Thumbs.db": "x"})
    assert main(["data", "flickr8k", str(src), str(tmp_path / "out")]) == 0
    train = contents(tmp_path / "out").pop("train")
    assert list(train) == ["b_2", "a_1"]
    assert list(train["b_2"]) == ["jpg", "txt", "json"]
    assert train["b_2"]["jpg"] == (src / "Images" / "b_2.jpg").read_bytes()
    assert train["b_2"]["txt"] == "A dog ."
    assert train["b_2"]["json"] == {
        "captions": ["A dog .", "A dog , wet"],
        "source": "Flickr8K",
        "file": "Images/b_2.jpg",
        "terms": "non-commercial research and education only; the photos belong to their owners",
    }
    assert train["a_1"]["json"]["captions"] == ['Two ""cats""']


def test_the_older_layout(
    plant: Plant, contents: Contents, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert build_flickr8k(str(plant(OLD)), str(tmp_path / "out")) == {"train": 2}
    train = contents(tmp_path / "out")["train"]
    assert {key: one["json"]["captions"] for key, one in train.items()} == {
        "a_1": ["Two cats"],
        "b_2": ["A dog .", "A dog\twet"],
    }
    assert "line 3: 2258277193_586949ec62.jpg.1 has no image; passed over" in caplog.text


def test_an_empty_caption_is_passed_over(
    plant: Plant, contents: Contents, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    src = plant(NEW | {"captions.txt": CAPTIONS + "a_1.jpg,\n"})
    build_flickr8k(str(src), str(tmp_path / "out"))
    assert contents(tmp_path / "out")["train"]["a_1"]["json"]["captions"] == ['Two ""cats""']
    assert "captions.txt line 5: an empty caption of a_1.jpg is passed over" in caplog.text


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no captions": (
        {"Images/a.jpg": None},
        "src holds no captions of Flickr8K: none of captions.txt, Flickr8k.token.txt",
    ),
    "no images": ({"captions.txt": CAPTIONS}, "src holds no images of Flickr8K: none of Images/"),
    "caption without image": (
        NEW | {"captions.txt": CAPTIONS + "c.jpg,x\nd.jpg,y\n"},
        r"captions\.txt line 5: 'c\.jpg' is no image of .*Images \(2 such captions in all\)",
    ),
    "image without caption": (
        NEW | {"Images/c.jpg": None},
        r"Images/c\.jpg has no caption in .*captions\.txt \(1 such images",
    ),
    "image with an empty caption": (
        {"captions.txt": "image,caption\na_1.jpg,  \n", "Images/a_1.jpg": None},
        r"Images/a_1\.jpg has no caption",
    ),
    "path instead of a name": (
        NEW | {"captions.txt": CAPTIONS + "../src/Images/a_1.jpg,x\n"},
        r"captions\.txt line 5: '\.\./src/Images/a_1\.jpg' is no image of",
    ),
    "two images of one key": (
        NEW | {"captions.txt": CAPTIONS + "a_1.png,x\n", "Images/a_1.png": None},
        r"a_1\.jpg and .*a_1\.png would both be the sample 'a_1'",
    ),
    "no header": (
        NEW | {"captions.txt": CAPTIONS.removeprefix("image,caption\n")},
        r"captions\.txt line 2: no value in a column file, ",
    ),
    "unquoted comma": (
        NEW | {"captions.txt": CAPTIONS + "a_1.jpg,x, y\n"},
        r"captions\.txt line 5: more values than columns; put quotes",
    ),
    "quote that stays open": (
        NEW | {"captions.txt": 'image,caption\na_1.jpg,"x\nb_2.jpg,y\nb_2.jpg,z\n'},
        r"captions\.txt line 2: unexpected end of data",
    ),
    "quote that is closed later": (
        NEW | {"captions.txt": 'image,caption\na_1.jpg,"x\nb_2.jpg,y"\nb_2.jpg,z\n'},
        r"captions\.txt line 3: the caption has a line break",
    ),
    "only the header": (
        {"captions.txt": "image,caption\n", "Images/readme": "x"},
        r"captions\.txt names no image, and .*Images holds none",
    ),
    "not UTF-8": (
        NEW | {"captions.txt": b"image,caption\na_1.jpg,caf\xe9\n"},
        r"captions\.txt line 2: not UTF-8 \(.* at byte 11\)",
    ),
    "token file without a number": (
        OLD | {"Flickr8k.token.txt": TOKENS + "a_1.jpg\tx\n"},
        r"token\.txt line 5: not of the form NAME\.jpg#N",
    ),
    "token file with a repeated number": (
        OLD | {"Flickr8k.token.txt": TOKENS + "b_2.jpg#1\tx\n"},
        r"token\.txt line 5: caption 1 of b_2\.jpg comes a second time, after .* line 4",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_another_layout_is_named_and_nothing_is_written(
    case: str, plant: Plant, tmp_path: Path
) -> None:
    files, message = BAD[case]
    with pytest.raises(UsageError, match=message):
        build_flickr8k(str(plant(files)), str(tmp_path / "out"))
    assert os.listdir(tmp_path) == ["src"]


def test_an_image_that_cannot_be_read_leaves_nothing(plant: Plant, tmp_path: Path) -> None:
    src = plant(NEW)
    (src / "Images" / "a_1.jpg").unlink()
    (src / "Images" / "a_1.jpg").symlink_to("/proc/self/mem")
    with pytest.raises(UsageError, match=r"cannot read the image .*a_1\.jpg"):
        build_flickr8k(str(src), str(tmp_path / "out"), samples_per_shard=1)
    assert os.listdir(tmp_path) == ["src"]


def test_the_real_photos_come_back(
    real_data: Callable[[str], Path], contents: Contents, tmp_path: Path
) -> None:
    rows, lists, photos = [], [], {}
    for split in ("train", "val", "test"):
        names = []
        with open_shard(str(real_data("flickr8k") / f"{split}-000.tar")) as reader:
            for sample in islice(reader, 20):
                name = f"{sample.key}.jpg"
                captions = json.loads(sample.members[2].data)["captions"]
                rows += [(name, caption) for caption in captions]
                photos[sample.key] = (split, sample.members[0].data, captions)
                assert set(captions) == set(read_captions(sample))
                names.append(name)
        lists.append(f"{split}={tmp_path / split}.txt")
        (tmp_path / f"{split}.txt").write_text("\n".join(names))
    (tmp_path / "src" / "Images").mkdir(parents=True)
    for key, (_, data, _) in photos.items():
        (tmp_path / "src" / "Images" / f"{key}.jpg").write_bytes(data)
    with (tmp_path / "src" / "captions.txt").open("w", newline="") as file:
        csv.writer(file).writerows([("image", "caption"), *sorted(rows)])
    counts = build_flickr8k(str(tmp_path / "src"), str(tmp_path / "out"), lists)
    assert counts == {"train": 20, "val": 20, "test": 20}
    found = contents(tmp_path / "out")
    for key, (split, data, captions) in photos.items():
        assert found[split][key]["jpg"] == data
        assert sorted(found[split][key]["json"]["captions"]) == sorted(captions)
