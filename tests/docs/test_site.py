"""The documentation as a site: it builds without a warning, holds every page and loads nothing."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from unlearnable.jobs.cli import build_app

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "docs" / "site" / "build.py"
PAGES = [path for path in (ROOT / "docs").rglob("*.md") if path.parent.name != "site"]

pytest.importorskip("zensical", reason="pip install -e '.[docs]'")
pytest.importorskip("mkdocstrings", reason="pip install -e '.[docs]'")


class Loaded(HTMLParser):
    """What a browser fetches to show a page."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag in ("script", "img", "iframe", "source"):
            self.addresses.append(found.get("src") or "")
        if tag == "link" and found.get("rel") in ("stylesheet", "preload", "icon", "preconnect"):
            self.addresses.append(found.get("href") or "")


def build(out: Path, script: Path = BUILD) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, str(script), str(out)]
    return subprocess.run(line, capture_output=True, text=True, check=False, timeout=250)


def is_command(name: str) -> bool:
    return not name.startswith("-")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("docs") / "out"
    done = build(out)
    assert done.returncode == 0, done.stdout + done.stderr
    return out / "site"


def text_of(page: Path) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "", page.read_text(encoding="utf-8")))


def test_every_page_is_there_and_in_the_navigation(site: Path) -> None:
    start = (site / "index.html").read_text(encoding="utf-8")
    for path in PAGES:
        name = path.relative_to(ROOT / "docs").with_suffix(".html")
        name = name.with_name("index.html") if name.name == "README.html" else name
        assert (site / name).is_file(), path
        assert re.search(rf'href="(\./)?{re.escape(name.as_posix())}"', start), path


def test_every_command_and_option_has_its_place(site: Path) -> None:
    app = build_app()
    for name in filter(is_command, app):
        page = text_of(site / "commands" / f"{name}.html")
        inner = [app[name][other] for other in filter(is_command, app[name])]
        for command in inner or [app[name]]:
            for argument in command.assemble_argument_collection():
                shown = set(argument.names) - set(argument.negatives)
                assert all(option in page for option in shown if option[:2] == "--"), name


def test_the_api_comes_from_the_docstrings(site: Path) -> None:
    page = text_of(site / "api.html")
    assert "Fit a surrogate on samples of config.input" in page  # of a function
    assert "Largest change of a pixel, in 8-bit levels" in page  # of a field
    assert "short slug that the manifest keeps" in page  # of an error


def test_no_command_of_the_first_page_is_cut_off() -> None:
    """A page shows about 80 characters of a line of code; the rest must be scrolled to."""
    blocks = re.findall(r"```.*?\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert [line for block in blocks for line in block.splitlines() if len(line) > 80] == []


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        for address in Loaded(page).addresses:
            assert not re.match(r"(?:[a-z]+:)?//", address), (page, address)


@pytest.mark.slow
def test_a_link_to_nowhere_is_an_error(tmp_path: Path) -> None:
    for name in ("jobs", "kernels", "pipeline"):
        (tmp_path / name).symlink_to(ROOT / name)
    docs = tmp_path / "docs"
    (docs / "site").mkdir(parents=True)
    for name in ("build.py", "zensical.toml"):
        (docs / "site" / name).write_bytes((ROOT / "docs" / "site" / name).read_bytes())
    script = docs / "site" / "build.py"
    (tmp_path / "README.md").write_text("# Start\n\n[here](docs/one.md#two)\n")
    (docs / "one.md").write_text("# One\n\n## Two\n\n[the sources](../jobs/cli.py)\n")
    out = tmp_path / "out"
    assert build(out, script).returncode == 0
    assert (out / "site" / "files" / "jobs" / "cli.py").is_file()
    (tmp_path / "README.md").write_text("# Start\n\n[here](docs/one.md#three)\n")
    done = build(out, script)
    assert done.returncode == 1
    assert "anchor does not exist" in done.stdout + done.stderr
    (docs / "one.md").write_text("# One\n\n[gone](two.md)\n")
    done = build(out, script)
    assert done.returncode == 1
    assert "docs/one.md: there is no two.md" in done.stderr
