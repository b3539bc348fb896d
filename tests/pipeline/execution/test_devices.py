"""What a GPU may change in a copy, as docs/results/bench.md states it.

Without a GPU its kernels run in Triton's interpreter, and bfloat16 and a device of Python
(`support/second_device.py`) stand for its other sums; tests marked `gpu` compare whole copies of
both devices.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import second_device
import torch
from runs import kept
from second_device import FITS
from torch import Tensor
from torch.utils import backend_registration

from unlearnable.kernels import hotflip_topk, pgd_step
from unlearnable.pipeline.data.images import decode, image_member
from unlearnable.pipeline.data.manifest import ManifestRow, manifest_url, read_manifest
from unlearnable.pipeline.data.shards import open_shard
from unlearnable.pipeline.execution.artifact import load_surrogate
from unlearnable.pipeline.execution.config import FitRunConfig, ProtectConfig
from unlearnable.pipeline.execution.fit import fit
from unlearnable.pipeline.execution.protect import protect
from unlearnable.pipeline.verify.config import VerifyConfig
from unlearnable.pipeline.verify.verify import verify

# Pictures are measured on the host, wherever they were optimised.
KERNELS = (hotflip_topk, pgd_step)
LOSSES = ("loss_before", "loss_after")


@pytest.fixture(scope="module")
def source(build_shards: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One shard of pictures that have the model's own size."""
    folder = tmp_path_factory.mktemp("devices") / "input"
    return build_shards(folder, shards=1, samples=8, size=64, seed=1)


@pytest.fixture(scope="module")
def published(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A surrogate that leaves triggers and steps to `protect`: it has met other pictures."""
    return fitted(corpus, tmp_path_factory.mktemp("published") / "surrogate", schedule="paper")


def fitted(source: Path, folder: Path, **options: object) -> str:
    settings = {"rounds": 1, "steps_per_round": 2, "pgd_steps": 1, "batch_size": 8} | options
    fit(FitRunConfig(str(source), output=str(folder), trigger_words=3, vocabulary=4, **settings))
    return str(folder)


def copy(source: Path, output: Path, surrogate: str, **options: object) -> list[ManifestRow]:
    """Protect ``source``, hold the copy to its promises and return its manifest."""
    config = ProtectConfig(
        str(source), str(output), surrogate=surrogate, executor="local", losses="all", **options
    )
    assert protect(config).exit_code == 0
    assert verify(VerifyConfig(str(output), against=str(source))).violations == []
    return read_manifest(manifest_url(str(kept(output)), "shard-000"))[0]


def without_losses(rows: list[ManifestRow]) -> list[ManifestRow]:
    return [dataclasses.replace(row, **dict.fromkeys(LOSSES, 0.0)) for row in rows]


def shard_bytes(output: Path) -> bytes:
    return (output / "shard-000.tar").read_bytes()


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Send every operation to its Triton kernel, whatever the device; return how often each ran."""
    pytest.importorskip("triton")
    counts: dict[str, int] = {}
    for module in KERNELS:
        name = module.__name__.rsplit(".", 1)[-1]

        def chosen(_: Tensor, name: str = name) -> bool:
            counts[name] = counts.get(name, 0) + 1
            return True

        monkeypatch.setattr(module, "on_gpu", chosen)
    return counts


@pytest.mark.skipif(torch.cuda.is_available(), reason="with a GPU whole copies are compared")
def test_the_kernels_of_a_gpu_write_the_bytes_of_plain_torch(
    source: Path, published: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    plain = copy(source, tmp_path / "plain", published, steps=2)
    counts = request.getfixturevalue("launches")
    kernels = copy(source, tmp_path / "kernels", published, steps=2)
    assert set(counts) == {"hotflip_topk", "pgd_step"}
    assert kernels == plain
    assert shard_bytes(tmp_path / "kernels") == shard_bytes(tmp_path / "plain")


def test_nothing_that_the_model_computes_reaches_the_files_of_the_default(
    source: Path, surrogate: str, tmp_path: Path
) -> None:
    exact = copy(source, tmp_path / "exact", surrogate, precision="fp32")
    rough = copy(source, tmp_path / "rough", surrogate, precision="bf16")
    assert [row.loss_after for row in rough] != [row.loss_after for row in exact]
    assert without_losses(rough) == without_losses(exact)
    assert shard_bytes(tmp_path / "rough") == shard_bytes(tmp_path / "exact")


@pytest.mark.parametrize(
    "fit",
    [
        pytest.param(name, marks=() if name in ("views", "paper") else pytest.mark.slow)
        for name in FITS
    ],
)
@pytest.mark.skipif(
    not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="this torch has no devices of Python",
)
def test_another_device_is_given_all_that_it_computes_with_and_writes_the_same_pictures(
    fit: str,
) -> None:
    pytest.importorskip("kornia")
    command = [sys.executable, second_device.__file__, fit]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert found["apart"]
    assert found["words"]
    designed = fit not in ("paper", "em", "tap")
    assert not all(copied["losses"] for copied in found["copies"])
    if designed:
        assert all(copied["same"] for copied in found["copies"] if not copied["steps"])


@pytest.mark.gpu
def test_the_default_writes_the_same_files_on_a_gpu(
    source: Path, surrogate: str, tmp_path: Path
) -> None:
    here = copy(source, tmp_path / "cpu", surrogate, device="cpu", precision="fp32")
    there = copy(source, tmp_path / "cuda", surrogate, device="cuda", precision="fp32")
    assert without_losses(there) == without_losses(here)
    assert shard_bytes(tmp_path / "cuda") == shard_bytes(tmp_path / "cpu")
    for name in LOSSES:
        values = [[getattr(row, name) for row in rows] for rows in (there, here)]
        np.testing.assert_allclose(*values, rtol=0.01)


@pytest.mark.gpu
def test_the_default_s_fit_finds_the_same_words_and_patterns_on_a_gpu(
    corpus: Path, tmp_path: Path
) -> None:
    places = {"cpu": tmp_path / "cpu", "cuda": tmp_path / "cuda"}
    here, there = (
        load_surrogate(fitted(corpus, folder, device=device))[0]
        for device, folder in places.items()
    )
    assert there.vocabulary == here.vocabulary
    assert here.code is not None
    assert there.code is not None
    bound = torch.full((1, 3, 64, 64), 8, dtype=torch.int8)
    assert torch.equal(
        *(code.compose(torch.zeros(1, 3, dtype=torch.int64), ["a"], ["colour"], bound)
          for code in (here.code, there.code))
    )  # fmt: skip


@pytest.mark.gpu
def test_steps_on_a_gpu_move_other_pixels_within_the_same_bound(
    source: Path, published: str, tmp_path: Path
) -> None:
    options = {"steps": 8, "precision": "fp32"}
    copy(source, tmp_path / "cpu", published, device="cpu", **options)
    copy(source, tmp_path / "cuda", published, device="cuda", **options)
    pixels = []
    for name in ("cpu", "cuda"):
        with open_shard(str(tmp_path / name / "shard-000.tar")) as shard:
            pixels.append(np.stack([decode(image_member(s).data).pixels for s in shard]))
    apart = np.abs(pixels[0].astype(int) - pixels[1].astype(int))
    assert apart.max() <= 16
