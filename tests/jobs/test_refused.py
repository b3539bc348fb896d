"""Requests that cannot be carried out: exit code 2, one line that names the option, at once."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from runs import NOISE, Run

from unlearnable.pipeline.data.images import encode
from unlearnable.pipeline.data.shards import Member, Sample, write_shard


@pytest.fixture
def source(build_shards: Callable[..., Path], tmp_path: Path) -> Path:
    return build_shards(tmp_path / "in", shards=2, samples=2, size=32)


INSIDE = "is inside the input .*choose a folder outside"
REFUSED = {
    "duplicate names": (
        "protect {in} {out}",
        "two shards are named shard-000: .*/in/shard-000.tar .*/more/shard-000.tar; rename",
    ),
    "output is the input": ("protect {src} {src}", f"/in {INSIDE}"),
    "output in the input": ("protect {src} {src}/copy", f"/in/copy {INSIDE}"),
    "output is a file": ("protect {src} {file}", "notes.txt is a file, .*choose another"),
    "epsilon 0": ("protect {src} {out} --epsilon 0", r"epsilon is 0; it must be 1\.\.64"),
    "epsilon 65": ("protect {src} {out} --epsilon 65", r"epsilon is 65; it must be 1\.\.64"),
    "epsilon 8.5": ("protect {src} {out} --epsilon 8.5", "epsilon is 8.5; give a whole number"),
    "k 0": ("protect {src} {out} --trigger-words 0", r"words is 0; it must be 1\.\.16"),
    "k 17": ("protect {src} {out} --trigger-words 17", r"words is 17; it must be 1\.\.16"),
    "more words than the model reads": (
        "fit {src} --output {out} --trigger-words 15",
        "reads 16 tokens of a caption, a trigger of 15 words needs at least 18",
    ),
    "surrogate among shards": ("fit {src} --output {src}", "/in holds shards; choose another"),
    "fit epsilon 0": ("fit {src} --output {out} --epsilon 0", r"epsilon is 0; it must be 1\.\."),
    "surrogate is a file": (
        "protect {src} {out} --surrogate {file} --method mem",
        "notes.txt is no surrogate",
    ),
    "unknown home": (
        "protect {src} ~nosuchuser/x",
        "no such user; write the whole path",
    ),
    "endless name": ("protect {src} {long}", "File name too long; check the path"),
    "input that is no text": ("protect {src}/\udce9 {out}", "is not UTF-8"),
    "demo in a file": ("demo --output {file}", "notes.txt is not empty"),
    "device": ("protect {src} {out} --device tpu9", "device is tpu9, .*; it must be auto, cpu"),
    "fit device": ("fit {src} --output {out} --device tpu9", "device is tpu9, .*must be auto, cpu"),
    "caption fields": ("protect {src} {out} --caption-fields", "caption-fields is empty"),
    "fit caption fields": ("fit {src} --output {out} --caption-fields", "caption-fields is empty"),
    "fit samples 0": (
        "fit {src} --output {out} --max-samples 0",
        "max-samples is 0; it must be at least 2",
    ),
    "fit samples -1": (
        "fit {src} --output {out} --max-samples -1",
        "max-samples is -1; it must be at least 2",
    ),
    "fit pixels 0": (
        "fit {src} --output {out} --max-pixels 0",
        "max-pixels is 0; it must be at least 1",
    ),
    "fit words in a folder": (
        "fit {src} --output {out} --words {src}",
        "words: there is no file .*in",
    ),
    "fit no words": ("fit {src} --output {out} --words {out}", "words: there is no file .*out"),
    "fit words in vain": (
        "fit {src} --output {out} --words {file} --method em",
        "method em sets no trigger; leave words out",
    ),
    "fit any words": (
        "fit {src} --output {out} --words tokenizer",
        "words tokenizer is for the paper schedule; give a file of words",
    ),
    "fit more lists than words": (
        "fit {src} --output {out} --words {lists} --trigger-words 2",
        "holds 3 lists, with blank lines between them, for 2 trigger words; write at most one",
    ),
    "fit k 17": ("fit {src} --output {out} --trigger-words 17", r"is 17; it must be 1\.\.16"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_carried_out_is_refused_before_anything_is_written(
    case: str, source: Path, tmp_path: Path, run: Run
) -> None:
    line, message = REFUSED[case]
    shutil.copytree(source, tmp_path / "more")
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "lists.txt").write_text("red\nold\n\ndog\nball\n \nruns\nsits\n")
    before = sorted(tmp_path.rglob("*"))
    places = {"src": source, "out": tmp_path / "out", "file": tmp_path / "notes.txt"}
    places["lists"] = tmp_path / "lists.txt"
    places["long"] = tmp_path / ("x" * 300)
    places["in"] = Path(f"{tmp_path}/{{in,more}}")
    noise = NOISE if line.startswith("protect") and "--method" not in line else ()
    code, told = run(*line.format(**places).split(), *noise)
    assert code == 2, told
    assert re.fullmatch(rf"unlearnable: .*{message}.*\n", told), told
    assert sorted(tmp_path.rglob("*")) == before


def test_a_cluster_that_does_not_answer_is_named_at_once(corpus: Path, tmp_path: Path) -> None:
    """Ray itself tries a dead address for minutes; that this is the probe's message shows haste."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    line = [sys.executable, "-m", "unlearnable", "protect", str(corpus), str(tmp_path / "out")]
    done = subprocess.run(
        [*line, "--method", "random"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"RAY_ADDRESS": address},
    )
    assert done.returncode == 2, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"unlearnable: no Ray cluster answers at RAY_ADDRESS={address} (")
    assert "refused" in last
    assert "unset RAY_ADDRESS to run on this machine alone" in last
    assert "Traceback" not in done.stderr


def test_a_corpus_too_small_to_fit_on_is_refused_before_the_first_step(
    tmp_path: Path, run: Run
) -> None:
    picture = encode(np.full((40, 40, 3), 90, np.uint8), "png")
    members = (Member("k.png", "png", picture), Member("k.txt", "txt", b"a red apple"))
    write_shard(tmp_path / "a.tar", [Sample("k", members, 0)])
    code, told = run("fit", tmp_path / "a.tar", "--output", tmp_path / "out", "--rounds", "9999")
    assert code == 2, told
    assert re.search(r"unlearnable: .*1 usable samples; a fit needs at least 2\n", told), told
    assert "round" not in told
    assert not (tmp_path / "out").exists()
