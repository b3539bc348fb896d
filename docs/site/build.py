"""Build the documentation as a site: `python docs/site/build.py [OUT]`; warnings are errors.

The pages are the Markdown files of docs/ and of the top of the tree; the pages of the commands come
from the command line itself, those of the Python API from its docstrings. Everything is staged in
one folder first, because a page may link to any file of the tree.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"

# Sections in order, each with its pages in order; a page that none names ends in its folder's
# section or in the last one.
NAVIGATION: dict[str, tuple[str, ...]] = {
    "Start": ("index.md", "tutorial.md", "owners.md", "quickstart.md", "concepts.md"),
    "Use": (
        "strength.md",
        "pictures.md",
        "publish.md",
        "chaining.md",
        "sizing.md",
        "faults.md",
        "security.md",
    ),
    "Running": (
        "running/ray.md",
        "running/kubernetes.md",
        "running/slurm.md",
        "running/airflow.md",
        "running/dagster.md",
    ),
    "Reference": ("manifest.md", "api.md"),
    "Commands": ("commands/index.md", "commands/run.md", "commands/data.md", "commands/fit.md"),
    "Strength": (
        "method.md",
        "paper.md",
        "withstands.md",
        "results/README.md",
        "results/robustness.md",
        "results/bench.md",
    ),
    "Project": ("contributing.md", "changelog.md", "vulnerabilities.md"),
}
_FOLDERS = {"running": "Running", "commands": "Commands", "results": "Strength"}
_TOP = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "vulnerabilities.md",
}
# Written here, so that they say what the code says.
_GENERATED = ("commands/index.md", "manifest.md")
_LINK = re.compile(r"(!?\[[^\]]*\]\()([^)\s#]+)(#[^)\s]*)?(\))")
_FENCE = re.compile(r"^(```|~~~)", re.MULTILINE)


def main(out: Path) -> int:
    """Stage the pages below ``out`` and build ``out``/site from them.

    Returns:
        exit code: 0, or 1 when a page could not be built without a warning.
    """
    shutil.rmtree(out, ignore_errors=True)
    pages = out / "pages"
    _write_pages(pages)
    _write_commands(pages / "commands")
    _write_manifest(pages / "manifest.md")
    _link_package(out / "package" / "unlearnable")
    config = (DOCS / "site" / "zensical.toml").read_text(encoding="utf-8")
    navigation = f"nav = {_toml(_navigation(pages))}"
    (out / "zensical.toml").write_text(
        config.replace("[project]\n", f"[project]\n{navigation}\n", 1), encoding="utf-8"
    )
    line = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    return min(1, subprocess.run(line, cwd=out, check=False).returncode)


def _write_pages(pages: Path) -> None:
    """Copy every page, its links made to hold in the site."""
    sources = {
        path: pages / path.relative_to(DOCS)
        for path in DOCS.rglob("*.md")
        if "site" not in path.relative_to(DOCS).parts
    } | {ROOT / name: pages / target for name, target in _TOP.items() if (ROOT / name).exists()}
    for source, target in sources.items():
        text = _outside_code(
            source.read_text(encoding="utf-8"),
            lambda prose, source=source, target=target: _LINK.sub(
                lambda link: _relink(link, source, target, sources, pages), prose
            ),
        )
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")


def _relink(
    link: re.Match[str], source: Path, target: Path, sources: dict[Path, Path], pages: Path
) -> str:
    """Point a link of ``source`` at the same thing in the site.

    A file of the tree that is no page travels along below ``files/``.

    Raises:
        SystemExit: the tree holds no such file.
    """
    before, address, anchor, after = link.groups()
    if re.match(r"[a-z]+:", address):
        return link.group()
    found = Path(os.path.normpath(source.parent / address))
    if found in {DOCS / name for name in _GENERATED}:
        place = pages / found.relative_to(DOCS)
    elif found in sources:
        place = sources[found]
    elif found.is_file():
        inside = found.relative_to(DOCS) if DOCS in found.parents else None
        place = pages / (inside or Path("files") / found.relative_to(ROOT))
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(found, place)
    elif found.is_dir():
        return f"{before[before.index('[') + 1 : -2]}"
    else:
        raise SystemExit(f"{source.relative_to(ROOT)}: there is no {address}")
    return f"{before}{os.path.relpath(place, target.parent)}{anchor or ''}{after}"


def _outside_code(text: str, change: Callable[[str], str]) -> str:
    """Apply ``change`` to what stands outside fenced code."""
    parts: list[str] = []
    start, fenced = 0, False
    for fence in _FENCE.finditer(text):
        part = text[start : fence.start()]
        parts.append(part if fenced else change(part))
        start, fenced = fence.start(), not fenced
    last = text[start:]
    return "".join([*parts, last if fenced else change(last)])


def _write_commands(folder: Path) -> None:
    """Write a page for each command, from the command line itself."""
    from unlearnable.jobs.cli import build_app

    text = build_app().generate_docs()
    head, *parts = re.split(r"^## (?=unlearnable )", text, flags=re.MULTILINE)
    folder.mkdir(parents=True)
    rows = []
    for part in parts:
        name = part.split("\n", 1)[0].removeprefix("unlearnable ").strip()
        page = re.sub(r"^#(#+ )", r"\1", f"# {part}", flags=re.MULTILINE)
        (folder / f"{name}.md").write_text(page, encoding="utf-8")
        summary = re.search(rf"^\* \[`{name}`\]\(#[^)]*\): (.*)$", head, re.MULTILINE)
        assert summary, name
        rows.append(f"| [`{name}`]({name}.md) | {summary.group(1)} |")
    options = head[head.index("**Parameters**") :]
    lines = ["# Commands", "", "| command | what it does |", "|---|---|", *rows, ""]
    (folder / "index.md").write_text("\n".join([*lines, options]), encoding="utf-8")


def _write_manifest(page: Path) -> None:
    """Write the columns of the manifest, from its schema."""
    from unlearnable.pipeline.data.manifest import COLUMNS

    rows = [f"| `{column.name}` | {column.type} | {column.text} |" for column in COLUMNS]
    head = (
        "# The manifest",
        "",
        "`manifest/<shard>.parquet`: one row for each sample of the input shard, in its order.",
        "",
        "| column | type | what it holds |",
        "|---|---|---|",
    )
    page.write_text("\n".join([*head, *rows, ""]), encoding="utf-8")


def _link_package(folder: Path) -> None:
    """Show the sources under the names that they have when they are installed."""
    folder.mkdir(parents=True)
    for path in (ROOT / "jobs" / "api").glob("*.py"):
        (folder / path.name).symlink_to(path)
    for name in ("pipeline", "kernels", "jobs"):
        (folder / name).symlink_to(ROOT / name)


def _navigation(pages: Path) -> list[object]:
    """Return what the generator takes as its navigation: every page, once."""
    left = {str(path.relative_to(pages)) for path in _markdown(pages)}
    sections: dict[str, list[str]] = {}
    for title, names in NAVIGATION.items():
        sections[title] = [name for name in names if name in left]
        left -= set(names)
    for name in sorted(left):
        sections[_FOLDERS.get(name.split("/", 1)[0], "Use")].append(name)
    return [{title: names} for title, names in sections.items() if names]


def _markdown(pages: Path) -> Iterator[Path]:
    yield from (path for path in pages.rglob("*.md") if "files" not in path.parts)


def _toml(value: object) -> str:
    if isinstance(value, dict):
        inner = ", ".join(f"{json.dumps(key)} = {_toml(item)}" for key, item in value.items())
        return f"{{ {inner} }}"
    if isinstance(value, list):
        return f"[{', '.join(_toml(item) for item in value)}]"
    return json.dumps(value)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build" / "docs").resolve()))
