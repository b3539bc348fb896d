"""The tutorial shows what each of its steps looks like, in pictures that it made itself."""

from __future__ import annotations

import re

import pytest
from doc_blocks import ROOT
from PIL import Image

PAGE = ROOT / "docs" / "tutorial.md"
PICTURE = re.compile(r"!\[[^\]]+\]\((tutorial/\w+\.png)\)")
STEPS = [part for part in PAGE.read_text().split("\n## ") if "```sh" in part]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: str(step.partition("\n")[0]))
def test_each_step_has_its_picture(step: str) -> None:
    shown = PICTURE.findall(step)
    assert shown
    for name in shown:
        with Image.open(PAGE.parent / name) as image:
            assert image.width >= 400


def test_no_picture_is_left_over() -> None:
    there = {f"tutorial/{path.name}" for path in (PAGE.parent / "tutorial").iterdir()}
    assert there == set(PICTURE.findall(PAGE.read_text()))
