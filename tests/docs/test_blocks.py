"""Every code block of the documentation is run, or says in its page why it is not."""

from __future__ import annotations

import ast
import csv
import os
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from doc_blocks import ROOT, RUN, SHOWN, Block, begins_with, blocks, commands, pages, run
from PIL import Image

from unlearnable.jobs.cli import build_app, main

PAGES = pages()
BLOCKS = [block for page in PAGES for block in blocks(page)]
SHELL = [block for block in BLOCKS if block.language == "sh"]
COLOURS = {
    "red": (200, 40, 40), "green": (40, 160, 60), "blue": (40, 70, 190), "white": (240, 240, 236),
    "black": (20, 20, 24), "yellow": (230, 200, 50), "brown": (120, 80, 50),
    "orange": (235, 130, 40),
}  # fmt: skip
THINGS = ("house", "river", "table", "boat", "garden", "bridge")


def pictures(folder: Path, seed: int) -> None:
    """A folder as a newcomer has it: pictures, some in a folder below, and a table of captions."""
    rng = np.random.default_rng(seed)
    (folder / "more").mkdir(parents=True)
    with (folder / "captions.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "caption"])
        for colour, ground in COLOURS.items():
            for thing in THINGS:
                name = f"more/{colour}-{thing}.jpg" if thing == "boat" else f"{colour}-{thing}.jpg"
                pixels = np.clip(rng.normal(ground, 30, (72, 96, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / name, quality=90)
                table.writerow([name, f"a {colour} {thing} by the old road"])


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    """The shell of someone who has the package installed."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": path, "OMP_NUM_THREADS": "1", "COLUMNS": "100"}


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """A working folder with the pictures that the pages speak of."""
    pictures(tmp_path / "my-pictures", 0)
    pictures(tmp_path / "my-test-pictures", 1)
    return tmp_path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a page may begin with: shards of the pictures, a surrogate and a protected copy."""
    folder = tmp_path_factory.mktemp("made")
    pictures(folder / "my-pictures", 0)
    shards, surrogate = str(folder / "shards"), str(folder / "surrogate")
    short = ("--rounds", "1", "--steps-per-round", "3")
    for line in (
        ("data", "folder", str(folder / "my-pictures"), shards),
        ("fit", shards, "--output", surrogate, *short),
        ("protect", shards, str(folder / "protected"), "--surrogate", surrogate),
    ):
        assert main(line) == 0
    return folder


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_block_is_of_a_known_language(block: Block) -> None:
    assert block.language in RUN + SHOWN
    if block.language == "yaml":
        assert list(yaml.safe_load_all(block.text))
    if block.language == "python":
        ast.parse(block.text)


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_commands_of_shell_blocks_parse(block: Block) -> None:
    app = build_app()
    for command in commands(block):
        if "--config" in command:
            place = command.index("--config")
            del command[place : place + 2]
        if command and command[0] != "--install-completion":
            app.parse_args(command, exit_on_error=False, print_error=False)


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_targets_of_make_exist(block: Block) -> None:
    made = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    asked = {name for line in re.findall(r"^make ([a-z -]+)", block.text, re.MULTILINE)
             for name in line.split()}  # fmt: skip
    assert asked <= made


def test_blocks_are_found_as_they_are_written(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# Page\n\n```sh\nx=1 unlearnable fit a \\\n    --output b --seed $n | tee log\n```\n\n"
        "<!-- not run: no cluster -->\n```sh\nkubectl get pods\n```\n\n1. a list\n\n"
        "   ```python\n   print(1)\n   ```\n"
    )
    shell, cluster, python = blocks(page)
    assert commands(shell) == [["fit", "a", "--output", "b", "--seed", "1"]]
    assert (shell.line, shell.why) == (3, None)
    assert cluster.why == "no cluster"
    assert (python.text, python.why) == ("print(1)\n", None)
    page.write_text("# Page\n\n<!-- no block is run: hours -->\n\n```sh\nls\n```\n")
    assert [block.why for block in blocks(page)] == ["hours"]


def test_a_block_that_fails_is_told_with_its_place(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    block = Block("docs/page.md", 7, "sh", "false | cat\necho never\n", None)
    with pytest.raises(AssertionError, match=r"docs/page.md:7 ended with 1"):
        run(block, tmp_path, environment, 60)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_blocks_of_a_page_run_in_order(
    page: Path, scene: Path, made: Path, environment: dict[str, str]
) -> None:
    todo = [block for block in blocks(page) if block.language in RUN and block.why is None]
    if not todo:
        pytest.skip("nothing to run")
    for name in begins_with(page):
        # A copy comes with its record.
        for path in made.glob(f"{name}*"):
            shutil.copytree(path, scene / path.name)
    for block in todo:
        run(block, scene, environment, 1800)
