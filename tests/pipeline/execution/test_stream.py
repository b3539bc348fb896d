"""The published method as a stream: unseen samples of any size, killed and resumed, made again."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from published import BATCH, ROUNDS, SEEN, STEPS, UNSEEN, fit_published, write_corpus
from runs import digests, kept

from unlearnable.pipeline.data.captions import read_captions
from unlearnable.pipeline.data.images import decode, image_member
from unlearnable.pipeline.data.limits import MAX_PIXELS
from unlearnable.pipeline.data.manifest import ManifestRow, manifest_url, read_manifest
from unlearnable.pipeline.data.shards import open_shard
from unlearnable.pipeline.execution.artifact import load_surrogate
from unlearnable.pipeline.execution.config import ProtectConfig
from unlearnable.pipeline.execution.protect import protect
from unlearnable.pipeline.execution.spec import RunSpec
from unlearnable.pipeline.method.protector import BatchProtector

# Dies as by a power cut at the third batch: one shard is committed, the next one begun.
_DYING = """
import os, signal, sys
from unlearnable.pipeline.execution.config import ProtectConfig
from unlearnable.pipeline.execution.protect import protect
from unlearnable.pipeline.method.protector import BatchProtector
batches, call = [], BatchProtector.__call__

def dying(self, *arguments):
    batches.append(arguments)
    if len(batches) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return call(self, *arguments)

BatchProtector.__call__ = dying
source, output, surrogate, size = sys.argv[1:]
protect(
    ProtectConfig(
        source,
        output,
        surrogate=surrogate,
        batch_size=int(size),
        executor="local",
        device="cpu",
        losses="all",
    )
)
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("mixed") / "in")


@pytest.fixture(scope="module")
def published(source: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("published") / "surrogate"
    told = str(fit_published(source, folder))
    assert f"protect replays {ROUNDS} rounds, which take" in told
    return str(folder)


@pytest.fixture(scope="module")
def copy(source: Path, published: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("copy") / "out"
    assert protect(settings(source, output, published)).exit_code == 0
    return output


def settings(source: Path, output: Path, surrogate: str) -> ProtectConfig:
    return ProtectConfig(
        str(source),
        str(output),
        surrogate=surrogate,
        batch_size=BATCH,
        executor="local",
        device="cpu",
        losses="all",
    )


def manifest(output: Path, shard: str) -> tuple[list[ManifestRow], dict[str, object]]:
    rows, metadata = read_manifest(manifest_url(str(kept(output)), shard))
    return rows, json.loads(metadata["config"])


def pixels(folder: Path, shard: str) -> tuple[list[np.ndarray], list[list[str]]]:
    with open_shard(str(folder / f"{shard}.tar")) as reader:
        samples = list(reader)
    images = [decode(image_member(sample).data, MAX_PIXELS).pixels for sample in samples]
    return images, [read_captions(sample, ("caption",)) for sample in samples]


def test_unseen_samples_of_mixed_sizes_get_what_seen_ones_get(copy: Path) -> None:
    for shard in (SEEN, *UNSEEN):
        rows, config = manifest(copy, shard)
        assert config["mem"] | {"method": "mem", "steps": STEPS, "shuffle": True} == config["mem"]
        assert {row.status for row in rows} == {"protected"}
        for row in rows:
            assert row.linf is not None
            assert row.shuffle_seeds is not None
            assert 1 <= row.linf <= ROUNDS * STEPS
            assert len(set(row.shuffle_seeds)) == ROUNDS * STEPS
            assert len((row.trigger_text or "").split()) == 3
        before, after = (
            sum(getattr(row, name) for row in rows) for name in ("loss_before", "loss_after")
        )
        assert after < before


def test_a_run_that_was_killed_ends_with_the_bytes_of_one_that_was_not(
    source: Path, published: str, copy: Path, tmp_path: Path
) -> None:
    output = tmp_path / "killed"
    line = [sys.executable, "-c", _DYING, str(source), str(output), published, str(BATCH)]
    assert subprocess.run(line, check=False).returncode == -9
    assert len(digests(output)) == 2, "one shard and its manifest"
    assert protect(settings(source, output, published)).exit_code == 0
    assert digests(output) == digests(copy)


def test_manifest_and_artifact_make_every_byte_again(
    source: Path, published: str, copy: Path
) -> None:
    surrogate, sha256 = load_surrogate(published)
    for shard in (SEEN, *UNSEEN):
        originals, captions = pixels(source, shard)
        written, texts = pixels(copy, shard)
        rows, config = manifest(copy, shard)
        protector = BatchProtector(surrogate, RunSpec.from_dict(config).mem)
        for batch in sorted({row.batch for row in rows if row.batch is not None}):
            own = [place for place, row in enumerate(rows) if row.batch == batch]
            images = [torch.from_numpy(originals[i].transpose(2, 0, 1).copy()) for i in own]
            seed = rows[own[0]].batch_seed
            assert seed is not None
            found = protector(images, [captions[i] for i in own], seed)
            for place, image, delta, text, before, after in zip(
                own,
                images,
                found.delta,
                found.trigger_text,
                found.loss_before,
                found.loss_after,
                strict=True,
            ):
                row = rows[place]
                again = (image.int() + delta.int()).numpy().transpose(1, 2, 0)
                assert np.array_equal(again, written[place])
                assert texts[place] == [f"{text} {captions[place][0]}"]
                assert row.shuffle_seeds == found.shuffle_seeds
                assert row.loss_before == pytest.approx(before)
                assert row.loss_after == pytest.approx(after)
                assert row.surrogate_sha256 == sha256


@pytest.mark.parametrize(("steps", "name"), [(None, "code"), (0, "code"), (1, "mem")])
def test_a_copy_says_what_ran(
    corpus: Path, surrogate: str, tmp_path: Path, steps: int | None, name: str
) -> None:
    output = tmp_path / "out"
    one = str(corpus / "shard-000.tar")
    config = replace(settings(Path(one), output, surrogate), steps=steps)
    assert protect(config).exit_code == 0
    rows, spec = manifest(output, "shard-000")
    told = {"method": name, "steps": steps or 0, "shuffle": name == "mem"}
    assert spec["mem"] | told == spec["mem"]  # type: ignore[operator]
    assert f"method {name}." in (output / "README.md").read_text()
    assert f"method {name}." in (output / "croissant.json").read_text()
    assert {len(row.shuffle_seeds or ()) for row in rows} == {steps or 0}
    # The same run, asked for in other words, is the same run.
    assert protect(replace(config, steps=steps or 0)).exit_code == 0


def test_the_dry_run_tells_passes_and_memory(source: Path, published: str, tmp_path: Path) -> None:
    config = replace(settings(source, tmp_path / "out", published), dry_run=True)
    told = str(protect(config))
    # Two forward passes for the losses; in each round two steps; one search.
    assert f"{2 / 3 + ROUNDS * STEPS + 1 / 3:.1f} forward+backward passes through the image" in told
    assert "the surrogate's models hold" in told
