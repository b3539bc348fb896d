"""preview: a contact sheet of a few samples, with and without a surrogate."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unlearnable.jobs.cli import main
from unlearnable.pipeline.data.images import decode, image_member
from unlearnable.pipeline.data.shards import Member, Sample, open_shard, write_shard
from unlearnable.pipeline.errors import UsageError
from unlearnable.pipeline.method.strength import STRENGTHS
from unlearnable.pipeline.report.config import PreviewConfig
from unlearnable.pipeline.report.preview import preview


def picture(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def test_without_a_surrogate(
    corpus: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    target = tmp_path / "sheet.png"
    options = ["--n", "3", "--output", str(target), "--epsilon", "4"]
    assert main(["preview", str(corpus), *options]) == 0
    told = capsys.readouterr().out
    assert "3 samples, no pixel changed by more than 4 of 255 levels" in told
    figures = re.findall(r"(\w+): PSNR ([\d.]+) dB, SSIM ([\d.]+), FLIP ([\d.]+)", told)
    assert [name for name, *_ in figures] == ["gentle", "balanced", "strong"]
    psnr, ssim, flip = zip(*(map(float, values) for _, *values in figures), strict=True)
    assert psnr[0] > psnr[1] > psnr[2]
    assert ssim[0] > ssim[2]
    assert flip[0] < flip[2]
    assert "step 2 of 3, choose words and patterns, about " in caplog.text
    assert list(tmp_path.iterdir()) == [target]
    # The dark red of trigger words; nothing else on the sheet but the small drawings has it.
    assert (picture(target) == (0xB3, 0x26, 0x1E)).all(axis=-1).sum() > 20


def test_pictures_are_shown_at_their_own_size_and_twice_it(
    corpus: Path, surrogate: str, tmp_path: Path
) -> None:
    target = tmp_path / "sheet.png"
    preview(PreviewConfig(str(corpus), n=1, surrogate=surrogate, output=str(target)))
    sheet = picture(target)
    with open_shard(str(corpus / "shard-000.tar")) as reader:
        size = decode(image_member(next(iter(reader))).data).pixels.shape[0]
    samples = [s for path in sorted(corpus.glob("*.tar")) for s in _samples(path)]
    pictures = [decode(image_member(sample).data).pixels for sample in samples]
    part = sheet[46 : 46 + size, 14 : 14 + size]
    assert any(np.array_equal(part, one) for one in pictures)
    half = part[size // 4 : size // 4 + size // 2, size // 4 : size // 4 + size // 2]
    below = 46 + size + 14
    twice = sheet[below : below + size, 14 : 14 + size]
    assert np.array_equal(twice, half.repeat(2, 0).repeat(2, 1))


def _samples(path: Path) -> list[Sample]:
    with open_shard(str(path)) as reader:
        return list(reader)


def test_the_seed_chooses_the_samples(corpus: Path, surrogate: str, tmp_path: Path) -> None:
    config = PreviewConfig(str(corpus), n=2, surrogate=surrogate)
    sheets = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        target = tmp_path / f"{name}.png"
        summary = preview(replace(config, output=str(target), seed=seed))
        # The pictures are of plain colours.
        tint = STRENGTHS["gentle"].tint
        assert (summary.shown, summary.linf, summary.left_out) == (2, tint, {})
        sheets.append(target.read_bytes())
    assert sheets[0] == sheets[1] != sheets[2]


def test_many_samples_stand_in_several_lines(corpus: Path, surrogate: str, tmp_path: Path) -> None:
    config = PreviewConfig(str(corpus), n=9, surrogate=surrogate, output=str(tmp_path / "a.png"))
    assert preview(config).shown == 9
    height, width, _ = picture(tmp_path / "a.png").shape
    assert height > 9 * 2 * 48
    assert width < 2200


def test_samples_that_cannot_be_protected_are_named(
    corpus: Path, surrogate: str, tmp_path: Path
) -> None:
    with open_shard(str(corpus / "shard-000.tar")) as reader:
        good = next(iter(reader))
    bad = Sample("bad", (Member("bad.png", "png", b"no"), Member("bad.txt", "txt", b"a cat")), 1)
    shard = tmp_path / "mixed.tar"
    write_shard(shard, [good, bad])
    config = PreviewConfig(str(shard), surrogate=surrogate, output=str(tmp_path / "sheet.png"))
    summary = preview(config)
    assert summary.shown == 1
    assert summary.left_out == {"mixed/bad": "image_undecodable"}
    assert "not shown: mixed/bad: image_undecodable" in str(summary)
    write_shard(shard, [bad])
    with pytest.raises(UsageError, match=r"none of 1 samples can be shown \(image_undecodable\)"):
        preview(config)
    with pytest.raises(UsageError, match=r"mixed.tar: 0 of the samples .* it takes 2"):
        preview(replace(config, surrogate=None))
    write_shard(shard, [])
    with pytest.raises(UsageError, match="holds no sample"):
        preview(config)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n": 0}, "n is 0"),
        ({"n": 65}, "n is 65"),
        ({"epsilon": 0}, "epsilon is 0"),
        ({"trigger_words": 17}, "trigger-words is 17"),
        ({"surrogate": "/nowhere"}, "is no surrogate"),
    ],
)
def test_what_is_refused(
    corpus: Path, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    config = PreviewConfig(str(corpus), output=str(tmp_path / "sheet.png"))
    with pytest.raises(UsageError, match=message):
        preview(replace(config, **change))  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())
