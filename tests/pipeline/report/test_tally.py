"""Counting manifests: histograms against numpy, and a seeded choice of samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from manifests import write_manifest

from unlearnable.pipeline.data.manifest import ManifestRow, manifest_url
from unlearnable.pipeline.report.tally import Histogram, choose, tally


@pytest.mark.parametrize("low", [0.0, 31.0, 99.95])
def test_histograms(low: float) -> None:
    values = np.random.default_rng(0).uniform(low, 100, 5000)
    found = Histogram(0, 100, 1000)
    for part in np.array_split(values, 7):
        found.add(part)
    found.add(np.array([np.nan]))
    assert found.total == 5000
    for share in (0.01, 0.5, 0.99):
        assert found.quantile(share) == pytest.approx(np.quantile(values, share), abs=0.2)
    edges, counts = found.bars(40)
    assert len(counts) <= 40
    assert counts.tolist() == np.histogram(values, edges)[0].tolist()


def test_values_out_of_range_are_counted_at_its_ends() -> None:
    found = Histogram(0, 10, 10)
    found.add(np.array([-5.0, np.inf, 3.5]))
    assert found.counts.tolist() == [1, 0, 0, 1, 0, 0, 0, 0, 0, 1]


@pytest.fixture
def output(tmp_path: Path) -> str:
    (tmp_path / "manifest").mkdir()
    for shard in "abc":
        rows = [
            ManifestRow(
                f"{shard}{i}",
                shard,
                i,
                "protected",
                linf=i,
                ssim=0.5 + i / 100,
                trigger_text=f"red word{i % 2}",
            )
            if i % 4
            else ManifestRow(f"{shard}{i}", shard, i, "quarantined", "image_undecodable")
            for i in range(12 if shard != "c" else 1)
        ]
        write_manifest(manifest_url(str(tmp_path), shard), rows, {"shard": shard})
    return str(tmp_path)


def test_tally(output: str) -> None:
    found = tally(output, list("abc"))
    assert found.statuses == {"protected": 18, "quarantined": 7}
    assert found.reasons == {"image_undecodable": 7}
    assert found.left_out[0] == ("a", "a0", "image_undecodable")
    assert found.left_out[-1] == ("c", "c0", "image_undecodable")
    assert found.linf == {i: 2 for i in range(12) if i % 4}
    assert found.words == {"red": 18, "word0": 6, "word1": 12}
    assert found.psnr.total == 0


def test_the_choice_is_seeded_and_spread(output: str) -> None:
    protected = [("a", 9), ("b", 9), ("c", 0)]
    chosen = choose(output, protected, 4, 0)
    assert {shard: len(keys) for shard, keys in chosen.items()} == {"a": 2, "b": 2}
    assert {"a1", "b1"} <= {key for keys in chosen.values() for key in keys}, "lowest SSIM"
    assert chosen == choose(output, protected, 4, 0)
    assert any(chosen != choose(output, protected, 4, seed) for seed in range(1, 5))
    everything = choose(output, protected, 64, 0)
    assert sorted(key for keys in everything.values() for key in keys) == sorted(
        f"{shard}{i}" for shard in "ab" for i in range(12) if i % 4
    )
    assert len(choose(output, protected, 1, 0)) == 1
    assert choose(output, [("c", 0)], 4, 0) == {}
