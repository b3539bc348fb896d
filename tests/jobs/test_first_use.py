"""A newcomer's way through the commands: a folder of pictures to verified, restorable shards."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pictures import write_captioned

from unlearnable.jobs.cli import main
from unlearnable.pipeline.data.shards import open_shard


def run(*line: str | Path) -> int:
    return main([str(part) for part in line])


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return write_captioned(tmp_path / "pictures")


def captions(folder: Path) -> list[bytes]:
    found = []
    for path in sorted(folder.glob("*.tar")):
        with open_shard(str(path)) as reader:
            found += [m.data for sample in reader for m in sample.members if m.ext == "txt"]
    return found


def test_from_a_folder_of_pictures_to_verified_shards_and_back(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shards, surrogate, copy, back = (tmp_path / n for n in ("shards", "fit", "copy", "back"))
    assert run("data", "folder", pictures, shards, "--samples-per-shard", "12") == 0
    short = ("--rounds", "1", "--steps-per-round", "1", "--pgd-steps", "1", "--vocabulary", "2")
    assert run("fit", shards, "--output", surrogate, "--trigger-words", "2", *short) == 0

    protect = ("protect", shards, copy, "--surrogate", surrogate, "--steps", "1")
    assert run(*protect, "--dry-run") == 0
    assert not copy.exists()
    assert run(*protect) == 0
    assert (copy / "_SUCCESS").exists()
    assert run(*protect, "--epsilon", "4") == 2
    assert "epsilon" in capsys.readouterr().err

    assert run("status", copy, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["complete"], report["committed"], report["protected"]) == (True, 2, 24)

    assert run("verify", copy, "--against", shards) == 0
    assert captions(copy) != captions(shards)
    assert run("restore", copy, back) == 0
    assert captions(back) == captions(shards)

    shard = min(copy.glob("*.tar"))
    shard.write_bytes(shard.read_bytes()[:-2048])
    assert run("verify", copy) == 4
    assert shard.stem in capsys.readouterr().out


def test_quarantine_above_the_limit_ends_with_3(pictures: Path, tmp_path: Path) -> None:
    for broken in ("red-house.png", "blue-river.png"):
        (pictures / broken).write_bytes(b"no picture")
    assert run("data", "folder", pictures, tmp_path / "shards") == 0
    line = ("protect", tmp_path / "shards", tmp_path / "copy", "--method", "random")
    assert run(*line) == 3
    assert run(*line, "--max-quarantined", "0.1") == 0
