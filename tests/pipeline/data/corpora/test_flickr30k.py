from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from unlearnable.jobs.cli import main
from unlearnable.pipeline.data.corpora.flickr import build_flickr30k
from unlearnable.pipeline.errors import UsageError

Contents = Callable[[Path], dict[str, dict[str, dict[str, Any]]]]
Plant = Callable[[dict[str, Any]], Path]

HEADER = "image_name| comment_number| comment\n"
# The last row is as the real file has caption 4 of 2199200615.jpg.
ROWS = (
    '10.jpg| 0| A man , a plan\n10.jpg| 1|  "Quoted" | barred\n20.jpg| 0| x\n20.jpg| 4   A dog .\n'
)
IMAGES = {"flickr30k_images/10.jpg": None, "flickr30k_images/20.jpg": None}


@pytest.mark.parametrize(
    ("table", "folder"),
    [
        ("results.csv", "flickr30k_images"),
        ("flickr30k_images/results.csv", "flickr30k_images/flickr30k_images"),
        ("results.csv", "flickr30k-images"),
    ],
)
def test_results(table: str, folder: str, plant: Plant, contents: Contents, tmp_path: Path) -> None:
    src = plant({table: HEADER + ROWS, f"{folder}/10.jpg": None, f"{folder}/20.jpg": None})
    assert main(["data", "flickr30k", str(src), str(tmp_path / "out")]) == 0
    train = contents(tmp_path / "out").pop("train")
    assert {key: one["json"]["captions"] for key, one in train.items()} == {
        "10": ["A man , a plan", '"Quoted" | barred'],
        "20": ["x", "A dog ."],
    }
    assert train["10"]["jpg"] == (src / folder / "10.jpg").read_bytes()
    assert train["10"]["txt"] == "A man , a plan"
    assert train["10"]["json"]["source"] == "Flickr30K"


def test_the_token_file(plant: Plant, contents: Contents, tmp_path: Path) -> None:
    src = plant(IMAGES | {"results_20130124.token": "20.jpg#0\tx\n10.jpg#0\ty\n20.jpg#1\tz\n"})
    assert build_flickr30k(str(src), str(tmp_path / "out")) == {"train": 2}
    assert contents(tmp_path / "out")["train"]["20"]["json"]["captions"] == ["x", "z"]


def test_karpathys_splits(plant: Plant, contents: Contents, tmp_path: Path) -> None:
    split = {"images": [{"filename": "10.jpg", "split": "test"}]}
    src = plant(IMAGES | {"results.csv": HEADER + ROWS, "dataset_flickr30k.json": split})
    line = ("--splits", str(src / "dataset_flickr30k.json"))
    assert main(["data", "flickr30k", str(src), str(tmp_path / "out"), *line]) == 0
    found = contents(tmp_path / "out")
    assert {name: list(samples) for name, samples in found.items()} == {
        "test": ["10"],
        "train": ["20"],
    }


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (IMAGES, r"no captions of Flickr30K: none of results\.csv"),
        ({"results.csv": HEADER + ROWS}, "no images of Flickr30K"),
        (IMAGES | {"results.csv": ROWS}, r"results\.csv line 1: the header must be image_name\| "),
        (IMAGES | {"results.csv": ""}, r"results\.csv line 1: the header must be"),
        (
            IMAGES | {"results.csv": HEADER + ROWS + "10.jpg, 3, x\n"},
            r"results\.csv line 6: not of the form",
        ),
        (
            IMAGES | {"results.csv": HEADER + ROWS + "10.jpg| 1| x\n"},
            r"results\.csv line 6: caption 1 of 10\.jpg comes a second time, after .* line 3",
        ),
        (
            IMAGES | {"results.csv": HEADER + ROWS + "30.jpg| 0| x\n"},
            r"results\.csv line 6: '30\.jpg' is no image",
        ),
        (
            IMAGES | {"results.csv": HEADER + ROWS, "flickr30k_images/30.jpg": None},
            r"30\.jpg has no caption in .*results\.csv",
        ),
    ],
)
def test_another_layout_is_named_and_nothing_is_written(
    files: dict[str, Any], message: str, plant: Plant, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        build_flickr30k(str(plant(files)), str(tmp_path / "out"))
    assert os.listdir(tmp_path) == ["src"]
