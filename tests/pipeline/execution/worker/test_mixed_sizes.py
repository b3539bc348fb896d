"""`--image-format same` on pictures of any type and size, and the memory that such a run takes."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from processes import PEAK
from runs import kept

from unlearnable.pipeline.data.images import JPEG_SLACK, image_member
from unlearnable.pipeline.data.manifest import ManifestRow, manifest_url, read_manifest
from unlearnable.pipeline.data.shards import Member, Sample, open_shard, write_shard
from unlearnable.pipeline.execution.config import ProtectConfig
from unlearnable.pipeline.execution.protect import protect
from unlearnable.pipeline.verify.config import VerifyConfig
from unlearnable.pipeline.verify.verify import verify

TYPES = (("jpg", "JPEG"), ("png", "PNG"), ("webp", "WEBP"), ("jpeg", "JPEG"))
SMALL = [(32, 32), (33, 47), (64, 64), (120, 90), (90, 120), (64, 64), (200, 32), (256, 256)]
LARGE = [(32, 32), (500, 375), (640, 480), (1024, 768), (3000, 4000), (4000, 3000)]

_RUN = """
import sys
from unlearnable.pipeline.execution.config import ProtectConfig
from unlearnable.pipeline.execution.protect import protect
source, output, surrogate, steps = sys.argv[1:]
options = {"surrogate": surrogate, "steps": int(steps), "image_format": "same"}
assert protect(ProtectConfig(source, output, executor="local", **options)).exit_code == 0
print(peak() / 1024)
"""


def write_mixed(folder: Path, sizes: Sequence[tuple[int, int]], types: int = len(TYPES)) -> Path:
    """Write a shard in which every (width, height) comes in several file types."""
    rng = np.random.default_rng(0)
    samples = []
    for row, (width, height) in enumerate(size for size in sizes for _ in range(types)):
        ext, fmt = TYPES[row % types]
        coarse = rng.integers(
            20, 230, (max(2, height // 40), max(2, width // 40), 3), dtype=np.uint8
        )
        buffer = io.BytesIO()
        Image.fromarray(coarse).resize((width, height)).save(buffer, fmt, quality=80)
        members = (Member(f"{row:04d}.{ext}", ext, buffer.getvalue()),)
        caption = f"a {('red', 'blue', 'green')[row % 3]} square near the river".encode()
        samples.append(
            Sample(f"{row:04d}", (*members, Member(f"{row:04d}.txt", "txt", caption)), row)
        )
    folder.mkdir()
    write_shard(folder / "mixed.tar", samples)
    return folder


def check(source: Path, output: Path) -> list[ManifestRow]:
    """Hold a copy to its promises: names, types, sizes, budgets; return its manifest."""
    assert verify(VerifyConfig(str(output), against=str(source))).violations == []
    with open_shard(str(source / "mixed.tar")) as before:
        originals = [image_member(sample) for sample in before]
    with open_shard(str(output / "mixed.tar")) as after:
        published = [image_member(sample) for sample in after]
    assert [image.name for image in published] == [image.name for image in originals]
    rows, _ = read_manifest(manifest_url(str(kept(output)), "mixed"))
    for row, one, other in zip(rows, originals, published, strict=True):
        with Image.open(io.BytesIO(one.data)) as a, Image.open(io.BytesIO(other.data)) as b:
            assert (a.format, a.size) == (b.format, b.size)
            slack = JPEG_SLACK if a.format == "JPEG" else 0
        assert row.linf is not None
        assert 0 < row.linf <= 8 + slack
    return rows


@pytest.mark.parametrize("steps", [0, 1])
def test_same_keeps_type_name_and_size_of_small_pictures(
    steps: int, surrogate: str, tmp_path: Path
) -> None:
    if steps:
        pytest.importorskip("kornia")
    source = write_mixed(tmp_path / "in", SMALL)
    config = ProtectConfig(
        str(source),
        str(tmp_path / "out"),
        surrogate=surrogate,
        steps=steps,
        image_format="same",
        pixel_budget=1 << 14,
        executor="local",
    )
    assert protect(config).exit_code == 0
    rows = check(source, tmp_path / "out")
    assert len({row.batch for row in rows}) > 1


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize(("steps", "repeats", "limit"), [(0, 4, 4000), (1, 1, 4000)])
def test_pictures_of_up_to_12_megapixels_stay_within_the_stated_memory(
    steps: int,
    repeats: int,
    limit: int,
    surrogate: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The peak memory of runs over large pictures (`pytest -s -m slow -k megapixels`).

    What docs/withstands.md states; the pictures of the first case are 390 MB as 8-bit pixels.
    """
    source, output = write_mixed(tmp_path / "in", LARGE * repeats), tmp_path / "out"
    line = [sys.executable, "-c", PEAK + _RUN, str(source), str(output), surrogate, str(steps)]
    env = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(line, capture_output=True, text=True, check=True, env=env)
    peak = float(done.stdout.split()[-1])
    with capsys.disabled():
        print(f"\n{steps} steps, {len(LARGE) * repeats * len(TYPES)} pictures: {peak:.0f} MB")
    check(source, output)
    assert peak < limit
