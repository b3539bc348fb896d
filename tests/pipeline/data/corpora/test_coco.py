from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from unlearnable.jobs.cli import main
from unlearnable.pipeline.data.corpora.coco import build_coco
from unlearnable.pipeline.errors import UsageError

Contents = Callable[[Path], dict[str, dict[str, dict[str, Any]]]]
Plant = Callable[[dict[str, Any]], Path]


def described(number: int) -> dict[str, Any]:
    return {
        "license": 3,
        "file_name": f"{number:012d}.jpg",
        "coco_url": f"http://images.example/{number}",
        "height": 24,
        "width": 32,
        "id": number,
    }


def table(*captions: tuple[int, str], **more: Any) -> dict[str, Any]:
    """A table whose images are those of the captions, and then what `more` replaces."""
    images = [described(number) for number in sorted({number for number, _ in captions})]
    annotations = [
        {"image_id": number, "id": place, "caption": text}
        for place, (number, text) in enumerate(captions)
    ]
    licenses = [{"id": 3, "name": "CC BY", "url": "http://cc.example"}]
    return {"info": {}, "images": images, "licenses": licenses, "annotations": annotations} | more


TRAIN = "annotations/captions_train2017.json"
VAL = "annotations/captions_val2017.json"
BOTH = {
    TRAIN: table((9, "A cat.\n"), (25, "Two dogs."), (9, "The cat")),
    VAL: table((7, "A bus"), (30, "A tree")),
    "train2017/000000000009.jpg": None,
    "train2017/000000000025.jpg": None,
    "val2017/000000000007.jpg": None,
    "val2017/000000000030.jpg": None,
}


def test_the_sets_are_the_splits(plant: Plant, contents: Contents, tmp_path: Path) -> None:
    src = plant(BOTH)
    assert main(["data", "coco", str(src), str(tmp_path / "out")]) == 0
    found = contents(tmp_path / "out")
    assert {split: list(samples) for split, samples in found.items()} == {
        "train": ["000000000009", "000000000025"],
        "val": ["000000000007", "000000000030"],
    }
    sample = found["train"]["000000000009"]
    assert sample["jpg"] == (src / "train2017" / "000000000009.jpg").read_bytes()
    assert sample["txt"] == "A cat."
    assert sample["json"] == {
        "captions": ["A cat.", "The cat"],
        "source": "COCO",
        "file": "train2017/000000000009.jpg",
        "id": 9,
        "width": 32,
        "height": 24,
        "coco_url": "http://images.example/9",
        "license": "CC BY (http://cc.example)",
    }


def test_a_table_without_its_images_is_passed_over(
    plant: Plant, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    src = plant({name: content for name, content in BOTH.items() if "train2017/" not in name})
    assert build_coco(str(src), str(tmp_path / "out")) == {"val": 2}
    assert "captions_train2017.json is passed over: there is no folder train2017" in caplog.text


def test_karpathys_splits_name_the_files_of_2014(
    plant: Plant, contents: Contents, tmp_path: Path
) -> None:
    numbers = {9: "train", 25: "test", 7: "restval", 30: "val"}
    images = [
        {"filename": f"COCO_val2014_{number:012d}.jpg", "cocoid": number, "split": split}
        for number, split in numbers.items()
    ]
    src = plant(BOTH | {"dataset_coco.json": {"images": images}})
    build_coco(str(src), str(tmp_path / "out"), [str(src / "dataset_coco.json")])
    found = contents(tmp_path / "out")
    assert {split: [int(key) for key in samples] for split, samples in found.items()} == {
        "train": [9, 7],
        "test": [25],
        "val": [30],
    }


def without(name: str, of: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in of.items() if key != name}


GOOD = {"train2017/000000000009.jpg": None}
TEXT = {"image_id": 9, "id": 1, "caption": "x"}
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no table": (GOOD, r"captions_train2017\.json does not exist, but .*train2017 holds images"),
    "no images": ({TRAIN: table((9, "x"))}, r"holds no annotations/.*tables found: train2017"),
    "nothing": ({"readme": "x"}, r"holds no annotations/.*tables found: none"),
    "bad JSON": (GOOD | {TRAIN: '{"images": [],\n\n"annotations": [}'}, "line 3: not JSON"),
    "cut JSON": (GOOD | {TRAIN: '{"images": [\n{"id": 9,'}, "line 2: not JSON"),
    "JSON list": (GOOD | {TRAIN: "[]"}, r"2017\.json line 1: a JSON object is expected"),
    "no list of images": (GOOD | {TRAIN: without("images", table((9, "x")))}, "no list 'images'"),
    "no annotations": (GOOD | {TRAIN: table(annotations=3)}, "no list 'annotations'"),
    "number for an image": (GOOD | {TRAIN: table(images=[9])}, r"images\[0\]: a JSON object"),
    "image without id": (
        GOOD | {TRAIN: table((9, "x"), images=[without("id", described(9))])},
        r"images\[0\]: 'id' must be a number",
    ),
    "image id twice": (
        GOOD | {TRAIN: table((9, "x"), images=[described(9), described(9)])},
        r"images\[1\]: the image 9 is already at .*images\[0\]",
    ),
    "file name twice": (
        GOOD | {TRAIN: table((9, "x"), images=[described(9), described(9) | {"id": 10}])},
        r"images\[1\]: the file name '000000000009\.jpg' comes a second time",
    ),
    "image in two sets": (
        BOTH | {VAL: table((9, "x")), "val2017/000000000009.jpg": None},
        r"val2017\.json images\[0\]: the image 9 is already at .*train2017\.json images\[0\]",
    ),
    "caption that is a number": (
        GOOD | {TRAIN: table((9, "x"), annotations=[TEXT, TEXT | {"caption": 3}])},
        r"annotations\[1\]: .*'caption' a text",
    ),
    "caption of no image": (
        GOOD | {TRAIN: table((9, "x"), annotations=[TEXT, TEXT | {"image_id": 5, "id": 2}])},
        r"annotations\[1\]: no image with the id 5",
    ),
    "annotation id twice": (
        GOOD | {TRAIN: table((9, "x"), annotations=[TEXT, TEXT])},
        r"annotations\[1\]: the id 1 is already at .*annotations\[0\]",
    ),
    "half a surrogate pair": (
        GOOD | {TRAIN: table((9, "\ud800"))},
        r"annotations\[0\]: the caption is not a text",
    ),
    "image of the table without a file": (
        GOOD | {TRAIN: table((9, "x"), (5, "y"))},
        r"annotations\[1\]: '000000000005\.jpg' is no image of .*train2017",
    ),
    "image of the table with nothing": (
        GOOD | {TRAIN: table((9, "x"), images=[described(9), described(5)])},
        r"images\[1\]: '000000000005\.jpg' has no caption and no image",
    ),
    "image without a caption": (
        GOOD | {TRAIN: table((9, "x")), "train2017/000000000005.jpg": None},
        r"000000000005\.jpg has no caption in .*train2017\.json",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_another_layout_is_named_and_nothing_is_written(
    case: str, plant: Plant, tmp_path: Path
) -> None:
    files, message = BAD[case]
    with pytest.raises(UsageError, match=message):
        build_coco(str(plant(files)), str(tmp_path / "out"))
    assert os.listdir(tmp_path) == ["src"]
