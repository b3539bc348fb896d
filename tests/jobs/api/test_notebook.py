"""protect_batch: the same protection as in shards, on images in memory."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from unlearnable import load_surrogate, protect_batch
from unlearnable.notebook import Captions, ProtectedImages
from unlearnable.pipeline.data.images import decode, encode, image_member
from unlearnable.pipeline.data.manifest import SCHEMA
from unlearnable.pipeline.data.shards import Member, Sample, open_shard, write_shard
from unlearnable.pipeline.errors import UsageError
from unlearnable.pipeline.execution.config import ProtectConfig
from unlearnable.pipeline.execution.protect import protect

CAPTIONS: list[Captions] = ["a red apple", ["a boat", "one boat on a river"], "a green house"]


@pytest.fixture(scope="module")
def arrays() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (40, 40 + 8 * i, 3), dtype=np.uint8) for i in range(3)]


def run(
    images: Sequence[Any], captions: Sequence[Captions], surrogate: Any, **options: Any
) -> ProtectedImages:
    return protect_batch(images, captions, surrogate, progress=False, device="cpu", **options)


def same(one: ProtectedImages, other: ProtectedImages) -> bool:
    pairs = zip(one.images, other.images, strict=True)
    return all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in pairs)


def test_images_captions_and_rows(arrays: list[np.ndarray], surrogate: str) -> None:
    result = run(arrays, CAPTIONS, surrogate, epsilon=4)
    assert str(result) == "3 protected, 0 quarantined"
    for given, image, row in zip(arrays, result.images, result.rows, strict=True):
        assert image is not None
        change = np.abs(np.asarray(image).astype(int) - given.astype(int)).max()
        assert 0 < change == row["linf"] <= 4
        assert list(row) == SCHEMA.names
        assert (row["width"], row["height"]) == (given.shape[1], given.shape[0])
    triggers = [row["trigger_text"] for row in result.rows]
    assert [len(trigger.split()) for trigger in triggers] == [3, 3, 3]
    assert result.captions[0] == f"{triggers[0]} a red apple"
    assert result.captions[1] == [f"{triggers[1]} a boat", f"{triggers[1]} one boat on a river"]


def test_it_does_what_protect_does(
    arrays: list[np.ndarray], surrogate: str, tmp_path: Path
) -> None:
    def sample(row: int) -> Sample:
        key, texts = f"{row:08d}", CAPTIONS[row]
        data = json.dumps({"captions": [texts] if isinstance(texts, str) else texts})
        image = Member(f"{key}.png", "png", encode(arrays[row], "png"))
        return Sample(key, (image, Member(f"{key}.json", "json", data.encode())), row)

    shard = tmp_path / "in" / "batch-00000.tar"
    shard.parent.mkdir()
    write_shard(shard, map(sample, range(3)))
    out = str(tmp_path / "out")
    options = {"surrogate": surrogate, "device": "cpu", "executor": "local", "seed": 5}
    assert protect(ProtectConfig(str(shard), out, **options)).exit_code == 0  # type: ignore[arg-type]
    result = run(arrays, CAPTIONS, surrogate, seed=5)
    with open_shard(f"{out}/batch-00000.tar") as reader:
        for published, image in zip(reader, result.images, strict=True):
            assert np.array_equal(decode(image_member(published).data).pixels, np.asarray(image))


def test_pil_arrays_and_tensors_are_the_same_images(
    arrays: list[np.ndarray], surrogate: str
) -> None:
    loaded = load_surrogate(surrogate)
    expected = run(arrays, CAPTIONS, loaded)
    tensors = [torch.from_numpy(array).permute(2, 0, 1) for array in arrays]
    assert same(expected, run([Image.fromarray(array) for array in arrays], CAPTIONS, surrogate))
    assert same(expected, run(tensors, CAPTIONS, loaded))
    assert same(expected, run([tensor / 255 for tensor in tensors], CAPTIONS, loaded))
    # Captions without a word that fit knows leave the trigger to the key and the picture.
    strange = ["zebra"] * len(tensors)
    assert same(run(tensors, strange, loaded), run(tensors, strange, loaded, seed=1))


def test_whole_arrays_and_tensors(surrogate: str) -> None:
    array = np.random.default_rng(1).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    tensor = torch.from_numpy(array).permute(0, 3, 1, 2)
    assert same(
        run(array, ["a boat"] * 4, surrogate, batch_size=2),  # type: ignore[arg-type]
        run(tensor, ["a boat"] * 4, surrogate, batch_size=2),  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "YCbCr"])
def test_pil_images_of_every_mode(mode: str) -> None:
    source = Image.new("RGB", (20, 30), (10, 200, 60))
    image = (
        Image.fromarray(np.full((30, 20), 30000, np.uint16))
        if mode == "I;16"
        else source.convert(mode)
    )
    result = run([image], ["green"], None, method="random")
    (found,) = result.images
    assert found is not None
    assert (found.mode, found.size) == ("RGB", (20, 30))
    assert result.captions == ["green"]


def test_photographs_are_turned_upright() -> None:
    image = Image.new("RGB", (20, 30))
    image.getexif()[0x0112] = 6
    (found,) = run([image], ["a door"], None, method="random").images
    assert found is not None
    assert found.size == (30, 20)


def test_a_sample_that_cannot_be_protected_leaves_a_gap(
    arrays: list[np.ndarray], surrogate: str
) -> None:
    result = run(arrays, ["a boat", "  ", "a house"], surrogate)
    assert [image is None for image in result.images] == [False, True, False]
    assert [caption is None for caption in result.captions] == [False, True, False]
    assert result.rows[1]["reason"] == "empty_caption"
    assert str(result) == "2 protected, 1 quarantined (empty_caption)"


@pytest.mark.parametrize("fmt", ["JPEG", "PNG"])
def test_a_truncated_picture_gives_the_reason_that_protect_gives(
    fmt: str, arrays: list[np.ndarray], surrogate: str
) -> None:
    buffer = io.BytesIO()
    Image.fromarray(arrays[1]).save(buffer, fmt)
    cut = Image.open(io.BytesIO(buffer.getvalue()[: len(buffer.getvalue()) // 2]))
    result = run([arrays[0], cut, arrays[2]], ["a boat", "a dog", "a house"], surrogate)
    assert [image is None for image in result.images] == [False, True, False]
    assert result.rows[1]["reason"] == "image_undecodable"


class Page(HTMLParser):
    """What a browser would see: tags, the sources of pictures, text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name == "src"]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_notebook_shows_it_inline(arrays: list[np.ndarray], surrogate: str) -> None:
    evil = '<script>alert(1)</script> costs $5 & "more" $'
    result = run([*arrays, arrays[0]], [*CAPTIONS, evil], surrogate)
    page = Page(result._repr_html_())
    assert "script" not in page.tags
    assert evil in page.text
    assert len(page.sources) == 3 * 4
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    pytest.importorskip("matplotlib")
    png = result._repr_png_()
    assert png is not None
    assert Image.open(io.BytesIO(png)).format == "PNG"


def test_nothing_to_show() -> None:
    result = run([np.zeros((8, 8, 3), np.uint8)], [""], None, method="random")
    assert Page(result._repr_html_()).sources == []
    assert result._repr_png_() is None


@pytest.mark.parametrize(
    ("images", "captions", "message"),
    [
        ([], [], "0 images and 0 captions"),
        ([np.zeros((8, 8, 3), np.uint8)], [], "1 images and 0 captions"),
        ([np.zeros((8, 8, 3), np.float32)], ["a"], r"images\[0\] is an array of float32"),
        ([np.zeros((3, 8, 8), np.uint8)], ["a"], "8 channels"),
        ([torch.zeros(8, 8, 3)], ["a"], r"give \[3, H, W\]"),
        ([torch.full((3, 8, 8), -1.0)], ["a"], "undo its normalisation"),
        ([Image.new("F", (8, 8))], ["a"], "no fixed range"),
        ([np.zeros((8, 8), np.uint8)], [3], r"captions\[0\] is neither a text"),
        ([np.zeros((8, 8), np.uint8)], [[]], r"captions\[0\] is neither a text"),
    ],
)
def test_what_cannot_be_used(images: Any, captions: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        run(images, captions, None, method="random")


def test_mem_needs_a_surrogate() -> None:
    with pytest.raises(UsageError, match="needs a surrogate"):
        run([np.zeros((8, 8), np.uint8)], ["a"], None)


@pytest.mark.slow
def test_in_a_real_notebook(surrogate: str) -> None:
    nbformat = pytest.importorskip("nbformat", reason="needs nbformat, nbclient and ipykernel")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    code = f"""
import numpy as np
from unlearnable import protect_batch
images = np.random.default_rng(0).integers(0, 256, (3, 48, 48, 3), dtype=np.uint8)
protect_batch(images, ["a boat", "a house", "a tree"], {surrogate!r}, device="cpu")
"""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    nbclient.NotebookClient(notebook, timeout=240, kernel_name="python3").execute()
    outputs = notebook.cells[0].outputs
    (shown,) = [output for output in outputs if output.output_type == "execute_result"]
    assert "3 protected" in shown.data["text/html"]
    assert any("3/3" in str(output) for output in outputs)
