"""report: one page, without network, in which nothing from the data is markup."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from runs import kept

from unlearnable.jobs.cli import main
from unlearnable.pipeline.data.images import encode
from unlearnable.pipeline.data.shards import Member, Sample, write_shard
from unlearnable.pipeline.errors import UsageError, ViolationError
from unlearnable.pipeline.evaluate.results import Results, VictimResult, write_results
from unlearnable.pipeline.evaluate.retrieval import Retrieval, Scores, chance
from unlearnable.pipeline.evaluate.victim import EpochPoint
from unlearnable.pipeline.execution.config import ProtectConfig
from unlearnable.pipeline.execution.protect import protect
from unlearnable.pipeline.report.config import ReportConfig
from unlearnable.pipeline.report.report import report

pytest.importorskip("matplotlib")

EVIL = '<script>alert(1)</script><img src=x onerror=alert(2)> & "quotes" costs $5 or $6 {{ 7 }}'
EVIL_SHARD = "a<b onclick=alert(3)>c"
EVIL_KEY = "<svg onload=alert(4)>'x"


class Page(HTMLParser):
    """What a browser sees: tags, attributes, text outside of style sheets."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] != "style":
            self.text += f" {data}"

    @property
    def pictures(self) -> list[str]:
        return [value for name, value in self.attributes if name == "src"]

    def stays_at_home(self) -> bool:
        """Whether nothing in the page would be fetched from anywhere, and nothing would run."""
        links = [
            v for name, v in self.attributes if name in ("src", "href", "xlink:href", "srcset")
        ]
        return (
            not {"script", "iframe", "object", "embed", "link", "form", "base"} & set(self.tags)
            and not any(name.startswith("on") for name, _ in self.attributes)
            and all(link.startswith(("data:image/png;base64,", "#")) for link in links)
        )


def evil_samples(count: int, seed: int = 0) -> list[Sample]:
    rng = np.random.default_rng(seed)
    samples = []
    for row in range(count):
        key = f"{EVIL_KEY}{row}"
        pixels = rng.integers(0, 256, (32, 48, 3), dtype=np.uint8)
        image = encode(pixels, "png") if row else b"not an image"
        members = (
            Member(f"{key}.png", "png", image),
            Member(f"{key}.txt", "txt", f"{EVIL} {row}".encode()),
        )
        samples.append(Sample(key, members, row))
    return samples


@pytest.fixture(scope="module")
def copy(corpus: Path, surrogate: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A protected copy of two good shards and one with everything that should not be there."""
    folder = tmp_path_factory.mktemp("report")
    source = folder / "source"
    source.mkdir()
    for name in ("shard-000.tar", "shard-001.tar"):
        shutil.copy(corpus / name, source)
    write_shard(source / f"{EVIL_SHARD}.tar", evil_samples(6))
    output = folder / "copy"
    config = ProtectConfig(
        str(source), str(output), surrogate=surrogate, device="cpu", executor="local",
        owner=EVIL, max_quarantined=1, losses="all",
    )  # fmt: skip
    assert protect(config).exit_code == 0
    return output


@pytest.fixture
def work(copy: Path, tmp_path: Path) -> Path:
    """The copy and its source in a place of their own, to be damaged."""
    return Path(shutil.copytree(copy.parent, tmp_path / "work"))


def write(output: Path, target: Path, **options: object) -> Page:
    report(ReportConfig(str(output), html=str(target), **options))  # type: ignore[arg-type]
    return Page(target)


def results_file(path: Path, names: list[str], clean: float = 40.0, images: int = 300) -> Path:
    def cell(name: str, seed: int, hit: float) -> VictimResult:
        curve = [EpochPoint(1, None, Retrieval(Scores(0, 0, hit, 9), Scores(0, 0, hit / 2, 9)))]
        return VictimResult(
            name, seed, {"model": "tiny", "epochs": 1}, curve, chance([1] * images), 10, 0,
            images, images, 1.0, "cpu", {},
        )  # fmt: skip

    cells = [
        cell(name, seed, clean / n + seed) for n, name in enumerate(names, 1) for seed in (0, 2)
    ]
    write_results(str(path), Results(tuple(cells)), [])
    return path


def test_the_page_through_the_command_line(
    copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "page.html"
    results = results_file(tmp_path / "results.json", ["clean", "protected"])
    line = ["report", str(copy), "--html", str(target), "--results", str(results)]
    assert main([*line, "--samples", "4"]) == 0
    assert capsys.readouterr().out.strip() == str(target)
    page = Page(target)
    text = " ".join(page.text.split())
    assert str(copy.parent) not in target.read_text()
    assert "Source source " in text
    assert "45 of 46 images were protected" in text
    assert "±8 largest change" in text
    assert re.search(r"0\.\d{3} mean FLIP of 4 samples, worst 0\.\d{3}", text)
    assert len(re.findall(r"levels, FLIP 0\.\d{3}", text)) == 4
    assert "image_undecodable" in text
    assert "the right caption of 21 of 100 unseen pictures" in text
    assert "trained on the originals, of 41; guessing finds 3." in text
    assert "41.0 ± 1.4" in text
    assert page.tags.count("figure") == 4
    assert len(page.pictures) == 12
    assert page.tags.count("svg") == 6
    assert target.stat().st_size < 2_000_000


@pytest.mark.parametrize(
    ("clean", "images", "why"),
    [
        (5.0, 300, "reaches 6.0 % image to text, which is less than 3 times chance (3.3 %)"),
        (40.0, 199, "the test set has 199 pictures, 200 are needed"),
    ],
)
def test_the_page_draws_no_conclusion_from_too_little_data(
    clean: float, images: int, why: str, copy: Path, tmp_path: Path
) -> None:
    results = results_file(tmp_path / "results.json", ["clean", "protected"], clean, images)
    page = write(copy, tmp_path / "page.html", samples=1, results=str(results))
    text = " ".join(page.text.split())
    assert "Too little data, no conclusion: " in text
    assert why in text
    assert "unseen pictures" not in text


def test_what_strangers_wrote_is_shown_and_never_run(copy: Path, tmp_path: Path) -> None:
    results = results_file(tmp_path / "results.json", ["clean", EVIL])
    page = write(copy, tmp_path / "page.html", samples=64, results=str(results))
    assert page.stays_at_home()
    for told in (EVIL, EVIL_SHARD, f"{EVIL_KEY}0"):
        assert told in page.text
    assert page.text.count(EVIL) >= 5 + 1 + 2  # captions, owner, results
    policy = dict(page.attributes)["content"]
    assert "default-src 'none'" in (tmp_path / "page.html").read_text()
    assert policy


def test_the_page_is_the_same_each_time(copy: Path, tmp_path: Path) -> None:
    def body(name: str, seed: int) -> str:
        write(copy, tmp_path / name, samples=3, seed=seed)
        return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "", (tmp_path / name).read_text())

    assert body("a", 0) == body("b", 0)
    assert body("a", 0) != body("c", 1)


def test_originals_that_have_moved_or_changed(work: Path, tmp_path: Path) -> None:
    output, source = work / "copy", work / "source"
    target = str(tmp_path / "page.html")
    moved = source.rename(work / "elsewhere")
    # The plan still names the first place; in this copy of the folders it is another one.
    config = ReportConfig(str(output), html=target, against=str(moved))
    assert report(config).notes == ()
    shard = moved / "shard-000.tar"
    shutil.copy(moved / "shard-001.tar", shard)
    (note,) = report(config).notes
    assert note.startswith("shard-000: the originals do not hold ")
    assert "Not shown: shard-000" in Page(tmp_path / "page.html").text
    shard.unlink()
    assert "shard-000: the originals do not hold this shard" in str(report(config))
    with pytest.raises(UsageError):
        report(ReportConfig(str(output), html=target, against=str(source)))


def test_an_original_with_other_pixels_is_not_compared(work: Path, tmp_path: Path) -> None:
    source = work / "source"
    write_shard(source / f"{EVIL_SHARD}.tar", evil_samples(6, seed=1))
    config = ReportConfig(
        str(work / "copy"), html=str(tmp_path / "page.html"), against=str(source), samples=9
    )
    notes = report(config).notes
    assert len(notes) == 1
    assert "no longer the image that was protected" in notes[0]


def test_a_run_that_is_not_complete(work: Path, tmp_path: Path) -> None:
    output = work / "copy"
    (output / "_SUCCESS").unlink()
    record = kept(output) / "_ledger" / "shard-001.json"
    failed = json.loads(record.read_text()) | {"status": "failed", "error": f"broken {EVIL}"}
    record.unlink()
    (kept(output) / "_ledger" / "shard-001.failed.json").write_text(json.dumps(failed))
    page = write(output, tmp_path / "page.html", samples=0)
    text = " ".join(page.text.split())
    assert "has not been measured" in text
    assert "2 of 3 shards are done, 1 failed. Do not publish it yet." in text
    assert f"broken {EVIL}" in text
    assert page.pictures == []
    assert page.stays_at_home()


def test_what_is_refused(work: Path, tmp_path: Path) -> None:
    output, target = str(work / "copy"), str(tmp_path / "page.html")
    with pytest.raises(UsageError, match="holds no run"):
        report(ReportConfig(str(work / "source"), html=target))
    with pytest.raises(UsageError, match="samples is 65"):
        report(ReportConfig(output, html=target, samples=65))
    with pytest.raises(UsageError, match="holds no results"):
        report(ReportConfig(output, html=target, results=str(tmp_path / "none.json")))
    (kept(work / "copy") / "manifest" / "shard-000.parquet").write_bytes(b"PAR1")
    with pytest.raises(ViolationError, match=r"shard-000.parquet is not a readable manifest"):
        report(ReportConfig(output, html=target))
    assert not Path(target).exists()


# Where Chromium asks for its own updates, its clock and its accounts, whatever page is open.
BROWSERS_OWN = {"accounts.google.com", "clients2.google.com", "update.googleapis.com"}


def browse(page: Path, target: Path, size: str, *options: str) -> np.ndarray:
    """Open a page in a real browser that keeps a log of what it fetches; return its picture."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
        "--disable-dev-shm-usage", "--disable-background-networking", "--disable-sync",
        "--disable-component-update", "--no-first-run", f"--user-data-dir={target}.profile",
        f"--log-net-log={target}.log", f"--window-size={size}", f"--screenshot={target}",
        *options, page.as_uri(),
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, timeout=280)
    return np.asarray(Image.open(target).convert("RGB")).astype(int)


def share_of(colour: str, picture: np.ndarray) -> float:
    """Share of the pixels within some levels of a colour of the style sheet."""
    wanted = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
    return float((np.abs(picture - wanted).max(axis=-1) <= 6).mean())


def palettes() -> dict[str, dict[str, str]]:
    """The colours by name, by day and by night."""
    css = (files("unlearnable.pipeline.report") / "templates" / "report.css").read_text()
    day, night = css.split("@media (prefers-color-scheme: dark)")
    return {
        name: dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", part))
        for name, part in (("day", day), ("night", night.split("* {")[0]))
    }


def contrast(one: str, other: str) -> float:
    """Contrast of two colours as WCAG 2 defines it, 1 to 21."""

    def luminance(colour: str) -> float:
        parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("name", ["day", "night"])
def test_text_and_plots_stand_out(name: str) -> None:
    colours = palettes()[name]
    for text in ("ink", "soft"):
        assert contrast(colours[text], colours["card"]) >= 4.5
        assert contrast(colours[text], colours["page"]) >= 4.5
    for text in ("good", "bad", "trigger"):
        assert contrast(colours[text], colours[f"{text}-back"]) >= 4.5
    # Graphics need 3; two bars of a pair have to differ in more than their hue.
    assert contrast(colours["first"], colours["card"]) >= 3
    assert contrast(colours["second"], colours["card"]) >= 2.5


@pytest.mark.slow
def test_a_real_browser_draws_it(copy: Path, tmp_path: Path) -> None:
    target = tmp_path / "page.html"
    results = results_file(tmp_path / "results.json", ["clean", EVIL])
    write(copy, target, results=str(results))
    wide = {
        "day": browse(target, tmp_path / "day.png", "1400,3600"),
        "night": browse(
            target, tmp_path / "night.png", "1400,3600", "--blink-settings=preferredColorScheme=0"
        ),
    }
    for name, picture in wide.items():
        colours = palettes()[name]
        assert share_of(colours["page"], picture[:4, :4]) == 1
        assert share_of(colours["card"], picture) > 0.3
        # Plots and text are really drawn in this light.
        for plot in ("first", "second"):
            assert share_of(colours[plot], picture) > 0.001
        assert share_of(colours["ink"], picture) > 0.002
    # A window of a browser is never as narrow as a telephone; a frame in it may be.
    frame = tmp_path / "frame.html"
    frame.write_text(
        f'<body style="margin:0"><iframe src="{target.name}" width="400" height="7000" '
        'style="border:0" scrolling="no"></iframe></body>'
    )
    narrow = browse(frame, tmp_path / "narrow.png", "600,7000")[:, :400]
    # Nothing is wider than it: at the right is the margin of the page, all the way down.
    page = palettes()["day"]["page"]
    assert share_of(page, narrow[:, -6:]) == 1
    assert share_of(page, narrow) < 0.5
    for name in ("day", "night", "narrow"):
        fetched = (tmp_path / f"{name}.png.log").read_text(errors="replace")
        assert target.name in fetched or frame.name in fetched
        assert set(re.findall(r'"url":"https?://([^/"]+)', fetched)) <= BROWSERS_OWN, name
