"""The code blocks of the documentation: found, judged and run.

A block that cannot run in a test says so in the source of its page, in a comment above it:
`<!-- not run: needs a Kubernetes cluster -->`. `<!-- no block is run: ... -->` speaks for a page.
`<!-- begins with: shards, surrogate, protected -->` names what the blocks of a page find in their
folder, beside `my-pictures` and `my-test-pictures`.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RUN = ("sh", "python")
# What is shown and never run; anything else is a language that nobody checks.
SHOWN = ("", "csv", "text", "console", "yaml", "json", "toml", "dockerfile", "sql", "html")
_BLOCK = re.compile(
    r"(?P<note><!-- not run: (?P<why>[^\n]+?) -->\n+)?"
    r"^(?P<indent> *)```(?P<language>[^\n`]*)\n(?P<text>.*?)^(?P=indent)```$",
    re.DOTALL | re.MULTILINE,
)
_PAGE_NOTE = re.compile(r"^<!-- no block is run: (.+?) -->$", re.MULTILINE)
_BEGINS = re.compile(r"^<!-- begins with: (.+?) -->$", re.MULTILINE)
_ENDS = {"|", "||", "&&", ";", "&", ")", "(", "<", ">", ">>", "2>", "2>&1", "do", "done", "then"}


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: path in the tree.
        line: of its fence, from 1.
        language: as written behind the fence.
        text: its lines, as a reader copies them.
        why: why it is not run, or None.
    """

    page: str
    line: int
    language: str
    text: str
    why: str | None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    """Every page that people read, the README first."""
    inside = (path for path in (ROOT / "docs").rglob("*.md") if path.parent.name != "site")
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(inside)]


def blocks(page: Path) -> list[Block]:
    """The blocks of one page, in order."""
    text = page.read_text(encoding="utf-8")
    note = _PAGE_NOTE.search(text)
    found = []
    for match in _BLOCK.finditer(text):
        indent = len(match["indent"])
        lines = match["text"].splitlines()
        found.append(
            Block(
                str(page.relative_to(ROOT)) if ROOT in page.parents else page.name,
                text.count("\n", 0, match.start("language")) + 1,
                match["language"].strip(),
                "\n".join(line[indent:] for line in lines) + "\n",
                match["why"] or (note[1] if note else None),
            )
        )
    return found


def begins_with(page: Path) -> list[str]:
    """What the page's folder holds before its first block is run."""
    found = _BEGINS.search(page.read_text(encoding="utf-8"))
    return [name.strip() for name in found[1].split(",")] if found else []


def commands(block: Block) -> list[list[str]]:
    """The arguments of each `unlearnable ...` in a shell block, variables filled in with 1."""
    found = []
    for line in block.text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        lexer.commenters = "#"
        words = list(lexer)
        for place, word in enumerate(words):
            before = words[place - 1] if place else ";"
            starts = before in _ENDS or before in ("time", "exec") or "=" in before
            if "=" not in word and word.rsplit("/", 1)[-1] == "unlearnable" and starts:
                rest = words[place + 1 :]
                end = next((i for i, word in enumerate(rest) if word in _ENDS), len(rest))
                found.append([re.sub(r"\$\{?\w+\}?", "1", word) for word in rest[:end]])
    return found


def run(block: Block, folder: Path, environment: dict[str, str], timeout: float) -> str:
    """Run a block in ``folder`` as a reader would; return what it printed.

    Raises:
        AssertionError: it failed; the message has the page, the line and its output.
    """
    line = ["bash", "-euo", "pipefail", "-c", block.text]
    if block.language == "python":
        line = [sys.executable, "-c", block.text]
    done = subprocess.run(
        line, cwd=folder, env=environment, text=True, timeout=timeout, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, f"{block} ended with {done.returncode}:\n{done.stdout[-4000:]}"
    return done.stdout
