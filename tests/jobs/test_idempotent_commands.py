"""Each command of a DAG may be run again: what is done stays as it is, what has changed is told."""

from __future__ import annotations

import json
import re
import shutil
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from runs import NOISE, Run, kept, place

from unlearnable.jobs.cli import main
from unlearnable.pipeline.data.plan import read_plan
from unlearnable.pipeline.execution.driver.lease import Lease

# As the session's surrogate was fitted.
FITTED_OPTIONS = {
    "--trigger-words": "3", "--vocabulary": "4", "--rounds": "1", "--steps-per-round": "3",
    "--pgd-steps": "1", "--batch-size": "20", "--strength": "gentle",
}  # fmt: skip
FITTED = [word for item in FITTED_OPTIONS.items() for word in item]


def state(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Time and bytes of every file; the log of each run is its own."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file() and path.parent.name != "_log"
    }


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    rows = ["image,caption"]
    for number in range(6):
        pixels = np.full((20, 30, 3), 40 * number, np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        rows.append(f"{number}.png,a grey wall number {number}")
    (folder / "captions.csv").write_text("\n".join(rows))
    return folder


def test_data_folder_again(pictures: Path, tmp_path: Path, run: Run) -> None:
    shards = tmp_path / "shards"
    line = ("data", "folder", pictures, shards, "--samples-per-shard", 2)
    assert run(*line)[0] == 0
    before = state(shards)
    assert len(before) == 3
    code, told = run(*line)
    assert code == 0, told
    assert "3 of 3 shards are there already" in told
    assert state(shards) == before
    (shards / "train-001.tar").unlink()
    assert run(*line)[0] == 0
    after = state(shards)
    assert {name: data for name, (_, data) in after.items()} == {
        name: data for name, (_, data) in before.items()
    }
    assert after["train-000.tar"] == before["train-000.tar"]


def test_data_folder_again_from_pictures_that_changed(
    pictures: Path, tmp_path: Path, run: Run
) -> None:
    shards = tmp_path / "shards"
    line = ("data", "folder", pictures, shards, "--samples-per-shard", 2)
    assert run(*line)[0] == 0
    before = state(shards)
    Image.new("RGB", (8, 8)).save(pictures / "3.png")
    code, told = run(*line)
    assert code == 2
    assert "train-001.tar is there and is not what this command writes" in told
    (pictures / "captions.csv").write_text("image,caption\n0.png,a\n1.png,b\n")
    code, told = run(*line)
    assert code == 2
    assert "choose another folder" in told
    assert state(shards) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pictures", "shards"]


def test_fit_again(corpus: Path, surrogate: str, tmp_path: Path, run: Run) -> None:
    folder = Path(shutil.copytree(surrogate, tmp_path / "fit"))
    before = state(folder)
    code, told = run("fit", corpus, "--output", folder, "--keep", *FITTED)
    assert code == 0, told
    assert "is there already and is kept" in told
    for changed in (
        {"--rounds": "2"}, {"--seed": "1"}, {"--max-samples": "20"}, {"--vocabulary": "5"}
    ):  # fmt: skip
        options = [word for item in (FITTED_OPTIONS | changed).items() for word in item]
        code, told = run("fit", corpus, "--output", folder, "--keep", *options)
        assert code == 2, told
        assert "fit to another folder, or replace it by --overwrite" in told
    code, told = run("fit", tmp_path / "{a,b}.tar", "--output", folder, "--keep", *FITTED)
    assert (code, "with input" in told) == (2, True)
    assert state(folder) == before
    (folder / "weights.safetensors").write_bytes(b"12")
    code, told = run("fit", corpus, "--output", folder, "--keep", *FITTED)
    assert (code, "fit it again" in told) == (2, True)


@pytest.fixture
def source(corpus: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(corpus, tmp_path / "in"))


@pytest.fixture
def copy(source: Path, tmp_path: Path) -> Path:
    assert main([*map(str, ("protect", source, tmp_path / "copy", *NOISE))]) == 0
    return tmp_path / "copy"


def test_publish_again(copy: Path, run: Run) -> None:
    code, told = run("publish", copy)
    assert code == 0, told
    assert ": published, 4 shards, 80 samples" in told
    before = state(copy)
    assert json.loads(before["_PUBLISHED"][1])["samples"] == 80
    code, told = run("publish", copy)
    assert (code, "was published before" in told) == (0, True)
    assert state(copy) == before
    assert run("verify", copy)[0] == 0


@pytest.mark.parametrize(
    ("lost", "code", "message"),
    [
        ("_SUCCESS", 3, "is not complete.*run protect again"),
        ("_ledger/shard-002.json", 3, "1 of 4 shards are missing, e.g. shard-002"),
        ("shard-001.tar", 4, "1 committed files are gone, e.g. shard-001.tar"),
        ("manifest/shard-001.parquet", 4, "e.g. manifest/shard-001.parquet"),
        ("index.json", 4, "index.json is not what the ledger says; run protect again"),
        ("_plan.parquet", 2, "holds no run"),
    ],
)
def test_what_is_not_whole_is_not_published(
    copy: Path, run: Run, lost: str, code: int, message: str
) -> None:
    place(copy, lost).unlink()
    found, told = run("publish", copy)
    assert found == code, told
    assert re.search(message, told), told
    assert not (copy / "_PUBLISHED").exists()


def test_a_run_that_finds_gaps_takes_the_mark_away(source: Path, copy: Path, run: Run) -> None:
    assert run("publish", copy)[0] == 0
    before = state(copy)["_PUBLISHED"][1]
    (kept(copy) / "_ledger" / "shard-001.json").unlink()
    shard = source / "shard-001.tar"
    whole = shard.read_bytes()
    shard.write_bytes(b"")
    assert run("protect", source, copy, *NOISE)[0] == 3
    assert not (copy / "_PUBLISHED").exists()
    assert run("publish", copy)[0] == 3
    shard.write_bytes(whole)
    assert run("protect", source, copy, *NOISE)[0] == 0
    assert run("publish", copy)[0] == 0
    assert state(copy)["_PUBLISHED"][1] == before


def test_an_output_that_another_run_has_is_worth_another_attempt(
    source: Path, copy: Path, run: Run
) -> None:
    plan = read_plan(str(kept(copy)))
    assert plan is not None
    now = time.time()
    lease = Lease(
        "20200101T000000Z-0000", plan.config_hash, "far", 1, "another", "77", "held", now, now + 60
    )
    path = kept(copy) / "_lease" / f"{lease.run}.json"
    path.write_text(json.dumps(asdict(lease)))
    code, told = run("protect", source, copy, *NOISE)
    assert code == 3, told
    assert re.search("is being written by run .*far.*run the same command again", told)
    path.write_text(json.dumps(asdict(replace(lease, expires=now))))
    assert run("protect", source, copy, *NOISE)[0] == 0
