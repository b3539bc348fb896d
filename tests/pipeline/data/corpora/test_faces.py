from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from unlearnable.jobs.cli import main
from unlearnable.pipeline.data.corpora.faces import build_faces
from unlearnable.pipeline.data.images import decode
from unlearnable.pipeline.errors import UsageError

Contents = Callable[[Path], dict[str, dict[str, dict[str, Any]]]]
Picture = Callable[..., bytes]
Plant = Callable[[dict[str, Any]], Path]


def test_pubfig(plant: Plant, contents: Contents, tmp_path: Path) -> None:
    files = {f"dev/Ada Lovelace/{n}.jpg": None for n in (0, 1, 2, 10)}
    files |= {f"eval/Alan_Turing/{n:03d}.jpg": None for n in range(3)}
    lists = {"dev_urls.txt": "# PubFig", "dev/Ada Lovelace/index.html": "x", ".cache/0.jpg": None}
    src = plant(files | lists)
    line = ("--test-per-identity", "1", "--template", "the face of {name}.")
    assert main(["data", "faces", str(src), str(tmp_path / "out"), *line]) == 0
    found = contents(tmp_path / "out")
    assert {split: list(samples) for split, samples in found.items()} == {
        "test": ["dev/Ada_Lovelace/10", "eval/Alan_Turing/002"],
        "train": [
            *("dev/Ada_Lovelace/0", "eval/Alan_Turing/000"),
            *("dev/Ada_Lovelace/1", "eval/Alan_Turing/001"),
            "dev/Ada_Lovelace/2",
        ],
    }
    sample = found["train"]["eval/Alan_Turing/001"]
    assert sample["jpg"] == (src / "eval" / "Alan_Turing" / "001.jpg").read_bytes()
    assert sample["txt"] == "the face of Alan Turing."
    assert sample["json"] == {
        "captions": ["the face of Alan Turing."],
        "identity": "Alan Turing",
        "source": "src",
        "file": "eval/Alan_Turing/001.jpg",
    }


def test_pgm_becomes_png_with_the_same_pixels(
    plant: Plant, picture: Picture, contents: Contents, tmp_path: Path
) -> None:
    files = {f"s{s}/{n}.pgm": picture(10 * s + n, "PPM", "L") for s in (1, 2) for n in (1, 2)}
    src = plant(files)
    assert build_faces(str(src), str(tmp_path / "out"), test_per_identity=0) == {"train": 4}
    train = contents(tmp_path / "out").pop("train")
    assert list(train) == ["s1/1", "s2/1", "s1/2", "s2/2"]
    for key, sample in train.items():
        assert list(sample) == ["png", "txt", "json"]
        with Image.open(src / f"{key}.pgm") as image:
            grey = np.asarray(image)
        assert (decode(sample["png"]).pixels == grey[..., None]).all()


PEOPLE = {"a/1.jpg": None, "a/2.jpg": None, "b/1.jpg": None, "b/2.jpg": None}


@pytest.mark.parametrize(
    ("files", "options", "message"),
    [
        ({"readme": "x"}, {}, "holds 0 folders of pictures"),
        ({"a/1.jpg": None, "a/2.jpg": None}, {}, "holds 1 folders of pictures"),
        (PEOPLE | {"c.jpg": None}, {}, r"src/c\.jpg lies outside the folders of the identities"),
        (PEOPLE, {"test_per_identity": 2}, "src/a holds 2 pictures; with 2 to test none is left"),
        (PEOPLE, {"test_per_identity": -1}, "must be at least 0"),
        (PEOPLE, {"template": "a photo"}, r"must hold \{name\}"),
        (PEOPLE | {"x/a/1.jpg": None}, {}, r"src/a and .*src/x/a are both the identity 'a'"),
        ({"a_b/1.jpg": None, "a b/1.jpg": None}, {}, "both the identity 'a b'"),
        (PEOPLE | {"a/1.png": None}, {}, "would both be the sample 'a/1'"),
        (PEOPLE | {"\udce9/1.jpg": None}, {}, r"the path of a picture .* is not a text"),
        (PEOPLE | {"a/3.pgm": b"P5 nothing"}, {}, r"a/3\.pgm: the image cannot be decoded"),
    ],
)
def test_another_layout_is_named_and_nothing_is_written(
    files: dict[str, Any], options: dict[str, Any], message: str, plant: Plant, tmp_path: Path
) -> None:
    options = {"test_per_identity": 0} | options
    with pytest.raises(UsageError, match=message):
        build_faces(str(plant(files)), str(tmp_path / "out"), **options)
    assert os.listdir(tmp_path) == ["src"]


def test_the_real_faces(
    real_data: Callable[[str], Path], contents: Contents, tmp_path: Path
) -> None:
    src = real_data("faces")
    template = "a photo of person {name}"
    assert build_faces(str(src), str(tmp_path / "out"), template) == {"train": 320, "test": 80}
    found = contents(tmp_path / "out")
    assert list(found["test"])[39:41] == ["s40/9", "s1/10"]
    assert len({one["txt"] for one in found["train"].values()}) == 40
    with Image.open(src / "s7" / "10.pgm") as image:
        grey = np.asarray(image)
    assert (decode(found["test"]["s7/10"]["png"]).pixels == grey[..., None]).all()
    assert found["test"]["s7/10"]["txt"] == "a photo of person s7"
