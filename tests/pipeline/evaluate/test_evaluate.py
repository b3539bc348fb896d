import json
import logging
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from unlearnable.pipeline.data.images import encode, fit_square
from unlearnable.pipeline.data.shards import Member, Sample, write_shard
from unlearnable.pipeline.errors import UsageError
from unlearnable.pipeline.evaluate.config import EvaluateConfig
from unlearnable.pipeline.evaluate.evaluate import evaluate
from unlearnable.pipeline.evaluate.pairs import load_pairs
from unlearnable.pipeline.evaluate.results import Results, read_cells
from unlearnable.pipeline.evaluate.results_csv import read_victims
from unlearnable.pipeline.evaluate.retrieval import chance
from unlearnable.pipeline.evaluate.tables import markdown_table, text_table

COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 180, 60),
    "blue": (40, 60, 220),
    "yellow": (230, 220, 40),
    "white": (245, 245, 245),
    "black": (15, 15, 15),
}
GRID = [(left, right) for left in COLOURS for right in COLOURS]


def flag(left: str, right: str, rng: np.random.Generator, size: int = 32) -> np.ndarray:
    """Two colours side by side, with noise: what its caption says is all there is to see."""
    image = np.empty((size, size, 3), np.int16)
    image[:, : size // 2], image[:, size // 2 :] = COLOURS[left], COLOURS[right]
    image += rng.integers(-15, 16, image.shape, dtype=np.int16)
    return image.clip(0, 255).astype(np.uint8)


def write_flags(
    folder: Path, samples: int, seed: int, *, shuffled: bool = False, broken: int = 0
) -> str:
    """Flags and their captions in one shard; ``shuffled`` puts captions to wrong pictures."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    names = [GRID[row % len(GRID)] for row in range(samples)]
    order = rng.permutation(samples) if shuffled else np.arange(samples)

    def one(row: int) -> Sample:
        picture = encode(flag(*names[row], rng), "png")
        left, right = names[order[row]]
        text = {"captions": [f"{left} beside {right}", f"a flag of {left} and {right}"]}
        return Sample(
            f"{row:05d}",
            (
                Member(f"{row:05d}.png", "png", b"no picture" if row < broken else picture),
                Member(f"{row:05d}.json", "json", json.dumps(text).encode()),
            ),
            row,
        )

    write_shard(folder / "flags-000.tar", (one(row) for row in range(samples)))
    return str(folder)


@pytest.fixture(scope="module")
def flags(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("flags")
    return {
        "clean": write_flags(folder / "clean", 576, 1),
        "shuffled": write_flags(folder / "shuffled", 576, 2, shuffled=True),
        "test": write_flags(folder / "test", len(GRID), 3),
    }


@pytest.fixture
def small(flags: dict[str, str], tmp_path: Path) -> EvaluateConfig:
    return EvaluateConfig(
        train=(f"clean={flags['clean']}",),
        test=flags["test"],
        output=str(tmp_path / "results.json"),
        image_size=32,
        epochs=1,
        batch_size=192,
        device="cpu",
    )


@pytest.fixture(scope="module")
def learned(flags: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Victims of two corpora that differ only in which caption goes with which picture."""
    return evaluate(
        EvaluateConfig(
            train=(f"clean={flags['clean']}", f"shuffled={flags['shuffled']}"),
            test=flags["test"],
            output=str(tmp_path_factory.mktemp("learned") / "results.json"),
            image_size=32,
            epochs=10,
            batch_size=64,
            lr=1e-3,
            eval_every=4,
            device="cpu",
        )
    )


def test_a_victim_learns_what_captions_say_and_nothing_from_wrong_ones(learned: Results) -> None:
    clean, shuffled = learned.of("clean")[0], learned.of("shuffled")[0]
    assert [point.epoch for point in clean.curve] == [4, 8, 10]
    assert clean.chance == chance([2] * len(GRID))
    for direction in ("i2t", "t2i"):
        assert clean.last(direction).hit5 > 75
        assert clean.last(direction).medr <= 3
        assert shuffled.last(direction).hit5 < 40
    assert (clean.samples, clean.test_samples, clean.test_captions) == (576, 36, 72)
    losses = [point.train_loss for point in clean.curve]
    assert losses[-1] < losses[0]


def test_the_file_holds_what_was_returned(learned: Results, flags: dict[str, str]) -> None:
    assert {cell.name for cell in learned.cells} == {"clean", "shuffled"}
    cell = learned.cells[0]
    assert cell.config["model"] == "tiny"
    assert cell.config["image_size"] == 32
    assert cell.device == "cpu"
    assert set(cell.versions) == {"unlearnable", "torch", "open_clip_torch", "python"}
    assert cell.seconds > 0


def test_tables_show_every_corpus_and_chance(learned: Results) -> None:
    table = text_table(learned)
    lines = table.splitlines()
    assert [line.split()[0] for line in lines[5:10]] == [
        "clean",
        "best",
        "shuffled",
        "best",
        "chance",
    ]
    assert len({len(line) for line in lines[3:10]}) <= 3
    doubt = "Too little data, no conclusion: the test set has"
    assert any(line.startswith(doubt) for line in lines[10:])
    last = learned.of("clean")[0].last("i2t")
    assert f"{last.hit10:.1f}" in lines[5]
    markdown = markdown_table(learned).splitlines()
    assert all(line.count("|") == 11 for line in markdown[2:])
    assert markdown[-1].startswith("| chance |")


def test_finished_cells_are_not_trained_again(
    small: EvaluateConfig, caplog: pytest.LogCaptureFixture
) -> None:
    first = evaluate(small)
    before = Path(small.output).read_bytes()
    caplog.clear()
    with caplog.at_level(logging.INFO, "unlearnable"):
        again = evaluate(small)
    assert again == first  # the seconds of a second training would differ
    assert Path(small.output).read_bytes() == before
    assert "1 of 1 victims" in caplog.text
    assert "epoch" not in caplog.text

    both = evaluate(replace(small, seeds=(0, 1)))
    assert both.cells[0] == first.cells[0]
    assert both.cells[1].curve != first.cells[0].curve
    assert read_cells(small.output) == list(both.cells)

    changed = evaluate(replace(small, lr=1e-4))
    assert changed.cells[0].curve != first.cells[0].curve
    kept = read_cells(small.output)
    assert [(cell.seed, cell.config["lr"]) for cell in kept] == [(0, 1e-4), (1, 5e-4)]


def test_another_corpus_under_the_same_url_is_trained_again(
    small: EvaluateConfig, tmp_path: Path
) -> None:
    url = write_flags(tmp_path / "corpus", 192, 7)
    config = replace(small, train=(f"mine={url}",))
    first = evaluate(config)
    os.unlink(Path(url) / "flags-000.tar")
    os.rmdir(url)
    write_flags(tmp_path / "corpus", 192, 8)
    assert evaluate(config).cells[0].curve != first.cells[0].curve


def test_a_victim_does_not_depend_on_where_it_runs(small: EvaluateConfig, tmp_path: Path) -> None:
    here = evaluate(replace(small, attack=("augment",)))
    there = evaluate(
        replace(small, attack=("augment",), workers=2, output=str(tmp_path / "other.json"))
    )
    assert [cell.curve for cell in here.cells] == [cell.curve for cell in there.cells]


def test_unreadable_samples_are_passed_over_and_counted(
    small: EvaluateConfig, tmp_path: Path
) -> None:
    url = write_flags(tmp_path / "broken", 200, 4, broken=3)
    cell = evaluate(replace(small, train=(f"broken={url}",))).cells[0]
    assert (cell.samples, cell.skipped) == (197, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": ("clean",)}, "NAME=URL"),
        ({"train": ("a=x", "a=x")}, "a=x stands in train twice"),
        ({"captions": 0}, "captions must be at least 1"),
        ({"train": ()}, "at least one corpus"),
        ({"train": ("a=/does/not/exist",)}, "/does/not/exist"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"seeds": (1, 1)}, "no seed twice"),
        ({"attack": ("jpgg:75",)}, "did you mean 'jpeg'"),
        ({"lr": 0.0}, "lr must be above 0"),
        ({"model": "no-such-model"}, "no-such-model"),
        ({"device": "cuda:99"}, "cuda:99"),
    ],
)
def test_wrong_options_are_refused(
    small: EvaluateConfig, change: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        evaluate(replace(small, **change))


def test_a_file_that_holds_something_else_is_not_overwritten(small: EvaluateConfig) -> None:
    Path(small.output).write_text('{"mine": 1}')
    with pytest.raises(UsageError, match="choose another output"):
        evaluate(small)
    assert Path(small.output).read_text() == '{"mine": 1}'


def test_pictures_are_resized_as_open_clip_does(rng_image: Callable[..., np.ndarray]) -> None:
    import torch
    from PIL import Image
    from torchvision.transforms import CenterCrop, InterpolationMode, Resize

    for height, width in ((50, 81), (120, 64), (20, 33), (32, 32)):
        image = rng_image(height, width)
        square = fit_square(image, 32)
        resize = Resize(32, interpolation=InterpolationMode.BICUBIC)
        expected = np.asarray(CenterCrop(32)(resize(Image.fromarray(image))))
        assert square.shape == (32, 32, 3)
        # The long side may be rounded by one pixel another way.
        difference = torch.from_numpy(square.astype(int) - expected.astype(int)).abs().float()
        assert difference.mean() < 12


@pytest.fixture
def rng_image() -> Callable[..., np.ndarray]:
    rng = np.random.default_rng(0)

    def make(height: int, width: int) -> np.ndarray:
        rows, columns = np.mgrid[:height, :width]
        image = np.stack([rows * 3 % 256, columns * 2 % 256, (rows + columns) % 256], axis=-1)
        return (image * 0.9 + rng.integers(0, 20, image.shape)).astype(np.uint8)

    return make


def test_attacks_are_rows_of_their_own(small: EvaluateConfig, tmp_path: Path) -> None:
    plain = evaluate(replace(small, output=str(tmp_path / "plain.json")))
    attacked = replace(small, attack=("gray", "augment", "share:50"))
    results = evaluate(attacked)
    rows = ["clean", "clean | gray", "clean | augment", "clean | share:50, the rest alone"]
    assert results.names == rows
    assert results.cells[0].curve == plain.cells[0].curve
    assert results.cells[0].config == plain.cells[0].config
    assert len({str(cell.curve) for cell in results.cells}) == 4
    assert [cell.samples for cell in results.cells] == [576, 576, 576, 288]
    lines = text_table(results).splitlines()
    assert [line[: len(row)] for line, row in zip(lines[5::2], rows, strict=False)] == rows
    assert "| clean \\| gray | last |" in markdown_table(results)

    cells = json.loads(Path(small.output).read_text())["cells"]
    assert [(cell["name"], cell["attack"]) for cell in cells[:2]] == [
        ("clean", None),
        ("clean", "gray"),
    ]
    assert read_cells(small.output) == list(results.cells)


def test_finished_attacks_are_not_trained_again(
    small: EvaluateConfig, caplog: pytest.LogCaptureFixture
) -> None:
    first = evaluate(replace(small, attack=("noise",)))
    caplog.clear()
    with caplog.at_level(logging.INFO, "unlearnable"):
        more = evaluate(replace(small, attack=("noise", "noise:32")))
    assert "2 of 3 victims" in caplog.text
    assert more.cells[:2] == first.cells
    assert more.cells[2].curve != more.cells[1].curve
    assert evaluate(small).cells == first.cells[:1]
    assert read_cells(small.output) == [*first.cells, more.cells[2]]


def test_recorded_victims_are_described_as_new_ones_are(small: EvaluateConfig) -> None:
    file = str(Path(__file__).parents[3] / "docs/results/openmoji.csv")
    recorded = read_victims(file, "openmoji")
    assert {cell.row for cell in recorded} == {
        "clean",
        "random",
        "protected",
        "topics",
        "paper-mem5",
    }
    cell = evaluate(small).cells[0]
    of_data = {"train", "test", "caption_fields", "max_pixels"}
    assert set(cell.config) - of_data == set(recorded[0].config)


def test_an_attack_changes_what_victims_see(flags: dict[str, str], tmp_path: Path) -> None:
    def attack(pixels: np.ndarray, row: int) -> np.ndarray:
        return 255 - pixels if row % 2 else pixels

    options = {"fields": ("captions",), "max_pixels": 1 << 20}
    plain = load_pairs(flags["test"], 32, str(tmp_path / "plain"), **options)
    turned = load_pairs(flags["test"], 32, str(tmp_path / "turned"), **options, attack=attack)
    assert np.array_equal(turned.images()[1::2], 255 - plain.images()[1::2])
    assert np.array_equal(turned.images()[::2], plain.images()[::2])
    assert turned.captions == plain.captions
    assert plain.keys[5] == "flags-000/00005"
