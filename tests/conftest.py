"""What tests of several parts share: small corpora, a small surrogate, one Ray cluster."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

# Before torch and Ray are imported: the tests share few cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
if not Path("/dev/nvidiactl").exists():
    # Read when Triton is first imported, which libraries of tests collected earlier may do.
    os.environ.setdefault("TRITON_INTERPRET", "1")

import numpy as np
import pytest

ShardBuilder = Callable[..., Path]

NOUNS = ("apple", "boat", "castle", "dog", "engine", "flower", "guitar", "house", "island")
COLOURS = ("red", "green", "blue", "yellow", "black", "white", "orange", "purple")
PLACES = ("table", "street", "garden", "beach", "roof", "bridge", "field", "river")


def drawing(rng: np.random.Generator, size: int) -> np.ndarray:
    """A few coloured boxes on a plain ground: compresses, trains and looks like a drawing."""
    image = np.empty((size, size, 3), np.uint8)
    image[:] = rng.integers(0, 256, 3)
    for _ in range(3):
        top, left = rng.integers(0, size - size // 4, 2)
        height, width = rng.integers(size // 8, size // 3, 2)
        image[top : top + height, left : left + width] = rng.integers(0, 256, 3)
    return image


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of a file run in one process of several; so do all that share the Ray cluster."""
    for item in items:
        own = "ray" if item.get_closest_marker("ray") else str(item.path)
        item.add_marker(pytest.mark.xdist_group(own))


@pytest.fixture(scope="session")
def build_shards() -> ShardBuilder:
    """Return a function that writes numbered shards of PNG + txt + json samples into a folder."""
    from unlearnable.pipeline.data.images import encode
    from unlearnable.pipeline.data.shards import Member, Sample, write_shard

    def build(
        folder: Path, *, shards: int = 4, samples: int = 20, size: int = 48, seed: int = 0
    ) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for shard in range(shards):
            rng = np.random.default_rng([seed, shard])

            def one(row: int, shard: int = shard, rng: np.random.Generator = rng) -> Sample:
                key = f"{shard:03d}-{row:05d}"
                words = [str(rng.choice(part)) for part in (COLOURS, NOUNS, PLACES)]
                text = "a {} {} near the {}".format(*words)
                more = json.dumps({"captions": [f"one {words[1]} by a {words[2]}"], "id": row})
                members = (
                    Member(f"{key}.png", "png", encode(drawing(rng, size), "png")),
                    Member(f"{key}.txt", "txt", text.encode()),
                    Member(f"{key}.json", "json", more.encode()),
                )
                return Sample(key, members, row)

            write_shard(folder / f"shard-{shard:03d}.tar", (one(row) for row in range(samples)))
        return folder

    return build


@pytest.fixture(scope="session")
def corpus(build_shards: ShardBuilder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four shards of 20 samples at 48 pixels; read only."""
    return build_shards(tmp_path_factory.mktemp("corpus") / "input")


@pytest.fixture(scope="session")
def surrogate(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a surrogate that was really fitted, for a moment, on `corpus`."""
    from unlearnable.pipeline.execution.config import FitRunConfig
    from unlearnable.pipeline.execution.fit import fit

    folder = str(tmp_path_factory.mktemp("surrogate") / "artifact")
    fit(
        FitRunConfig(
            str(corpus),
            output=folder,
            trigger_words=3,
            rounds=1,
            steps_per_round=3,
            pgd_steps=1,
            batch_size=20,
            vocabulary=4,
            # The others leave the bound map out of the tests, or the luma grating.
            strength="gentle",
        )
    )
    return folder


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[str]:
    """Address of a Ray cluster of two CPUs that this session runs; tests connect by RAY_ADDRESS."""
    ray = pytest.importorskip("ray")
    context = ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=100 << 20,
    )
    try:
        yield context.address_info["gcs_address"]
    finally:
        ray.shutdown()
