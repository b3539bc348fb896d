import io
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unlearnable.pipeline.data.images import Pixels
from unlearnable.pipeline.errors import UsageError
from unlearnable.pipeline.evaluate.figures import plot_attacks, plot_curves
from unlearnable.pipeline.evaluate.results import Results, VictimResult
from unlearnable.pipeline.evaluate.retrieval import Retrieval, Scores, chance
from unlearnable.pipeline.evaluate.victim import EpochPoint
from unlearnable.pipeline.execution.config import ProtectConfig
from unlearnable.pipeline.execution.protect import protect
from unlearnable.pipeline.report.figures import Comparison, comparisons, contact_sheet

pytest.importorskip("matplotlib")


def cell(name: str, seed: int, hits: list[float]) -> VictimResult:
    curve = [
        EpochPoint(epoch, None, Retrieval(Scores(0, 0, hit, 9), Scores(0, 0, hit / 2, 9)))
        for epoch, hit in enumerate(hits, 1)
    ]
    return VictimResult(name, seed, {}, curve, chance([2] * 50), 10, 0, 50, 100, 1.0, "cpu", {})


def test_best_and_last_epoch_and_their_mean_over_seeds() -> None:
    results = Results((cell("a", 0, [10, 40, 30]), cell("a", 1, [10, 20, 50])))
    last = results.aggregate("a", "last", "i2t")["hit10"]
    best = results.aggregate("a", "best", "i2t")["hit10"]
    assert (last.mean, best.mean) == (40, 45)
    assert last.deviation == pytest.approx(14.142136)
    assert results.aggregate("a", "best", "t2i")["hit10"].mean == 22.5


def test_the_plot_of_attacks_has_a_line_for_each_row(tmp_path: Path) -> None:
    cells = [cell("a", 0, [10, 40]), cell("a", 1, [20, 50]), cell("a", 0, [5, 6])]
    cells[2] = replace(cells[2], attack="jpeg:75")
    heights = []
    for count in (2, 3):
        plot_attacks(Results(tuple(cells[:count])), str(tmp_path / "attacks.png"))
        with Image.open(tmp_path / "attacks.png") as image:
            heights.append(image.height)
            assert len(image.convert("RGB").getcolors(1 << 20)) > 20
    assert heights[1] > heights[0]


def test_the_plot_shows_each_corpus_in_its_own_colour(tmp_path: Path) -> None:
    results = Results((cell("a", 0, [10, 40]), cell("a", 1, [20, 50]), cell("b", 0, [5, 6])))
    plot_curves(results, str(tmp_path / "both.png"))
    plot_curves(replace(results, cells=results.cells[:2]), str(tmp_path / "one.png"))

    def pixels_of(name: str, colour: tuple[int, int, int]) -> int:
        image = np.asarray(Image.open(tmp_path / name).convert("RGB")).astype(int)
        return int((np.abs(image - colour).max(axis=-1) < 6).sum())

    blue, red = (0x1B, 0x6C, 0xA8), (0xD1, 0x49, 0x5B)
    assert pixels_of("both.png", blue) > 500
    assert pixels_of("both.png", red) > 500
    assert pixels_of("one.png", red) == 0


def test_the_contact_sheet_shows_what_protect_wrote(corpus: Path, tmp_path: Path) -> None:
    output = str(tmp_path / "copy")
    config = ProtectConfig(str(corpus), output, method="random", executor="local")
    assert protect(config).exit_code == 0
    shown = comparisons(str(corpus), output, 4)
    assert len(shown) == 4
    for sample in shown:
        change = sample.after.astype(int) - sample.before.astype(int)
        assert 0 < np.abs(change).max() <= 8
        grey = sample.difference()[change == 0]
        assert set(grey.tolist()) <= {128}
    target = tmp_path / "sheet.png"
    contact_sheet(str(corpus), output, str(target), count=3)
    image = Image.open(io.BytesIO(target.read_bytes()))
    assert image.format == "PNG"
    assert min(image.size) > 500


def test_a_copy_without_manifest_cannot_be_shown(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no manifest"):
        contact_sheet(str(corpus), str(corpus), str(tmp_path / "sheet.png"))


def test_flip_tells_what_an_eye_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    """A change of the same size is seen on a plain picture and hidden in noise."""
    plain = np.full((48, 64, 3), 128, np.uint8)
    stripes = np.where(np.arange(64) // 4 % 2, 8, -8)[None, :, None]
    noise = np.random.default_rng(0).integers(16, 240, plain.shape, np.uint8)

    def flip(before: Pixels, after: Pixels) -> float:
        found = Comparison(before, after.astype(np.uint8), "", "").flip
        assert found is not None
        return found

    assert flip(plain, plain) == 0
    assert flip(0 * plain, 0 * plain + 255) > 0.9
    assert flip(plain, plain + stripes // 2) < flip(plain, plain + stripes) < 0.3
    assert flip(noise, noise + stripes) < flip(plain, plain + stripes)
    monkeypatch.setitem(sys.modules, "flip_evaluator", None)
    assert Comparison(plain, plain, "", "").flip is None
