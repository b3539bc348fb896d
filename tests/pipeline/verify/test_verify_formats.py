"""`verify` on copies whose images are not all PNG: JPEG is measured though it cannot be bounded."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from manifests import write_manifest
from PIL import Image
from runs import kept

from unlearnable.pipeline.data.images import (
    JPEG_SLACK,
    decode,
    image_member,
    replace_image,
)
from unlearnable.pipeline.data.manifest import (
    ManifestRow,
    manifest_url,
    read_manifest,
)
from unlearnable.pipeline.data.shards import Member, Sample, open_shard, write_shard
from unlearnable.pipeline.execution.config import ImageFormat, ProtectConfig
from unlearnable.pipeline.execution.protect import protect
from unlearnable.pipeline.verify.config import VerifyConfig
from unlearnable.pipeline.verify.verify import VerifyReport, verify

SOURCES = {"a": ("jpg", "JPEG"), "b": ("png", "PNG"), "c": ("webp", "WEBP"), "d": ("bmp", "BMP")}
PUBLISHED = {
    "jpeg": {"a": "jpg", "b": "jpg", "c": "jpg", "d": "jpg"},
    "same": {"a": "jpg", "b": "png", "c": "webp", "d": "png"},
}
CAPTION = {key: Member(f"{key}.txt", "txt", b"a dog") for key in "ab"}
FORMATS: tuple[ImageFormat, ...] = ("jpeg", "same")


def saved(pixels: np.ndarray, fmt: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, fmt)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shard of one sample of each source format."""
    folder = tmp_path_factory.mktemp("originals")
    rng = np.random.default_rng(0)
    samples = []
    for row, (key, (ext, fmt)) in enumerate(SOURCES.items()):
        pixels = np.kron(rng.integers(40, 200, (6, 6, 3)), np.ones((8, 8, 1))).astype(np.uint8)
        picture = Member(f"{key}.{ext}", ext, saved(pixels, fmt))
        samples.append(Sample(key, (picture, Member(f"{key}.txt", "txt", b"a dog")), row))
    write_shard(folder / "s.tar", samples)
    return folder


@pytest.fixture
def copy_in(originals: Path, tmp_path: Path) -> Callable[[ImageFormat], Path]:
    """Return a function that protects the originals in an image format."""

    def make(image_format: ImageFormat) -> Path:
        output = tmp_path / image_format
        config = ProtectConfig(str(originals), str(output), method="random", executor="local")
        assert protect(replace(config, image_format=image_format)).exit_code == 0
        return output

    return make


def check(output: Path, originals: Path | None = None) -> VerifyReport:
    return verify(VerifyConfig(str(output), against=str(originals) if originals else None))


def samples_of(output: Path) -> list[Sample]:
    with open_shard(str(output / "s.tar")) as reader:
        return list(reader)


def publish_image(output: Path, key: str, data: bytes) -> None:
    """Put other bytes in place of the image of ``key``."""
    samples = samples_of(output)
    place = next(place for place, sample in enumerate(samples) if sample.key == key)
    source = image_member(samples[place])
    members = replace_image(samples[place].members, source, data, source.ext)
    samples[place] = replace(samples[place], members=members)
    write_shard(output / "s.tar", samples)


def rows_of(output: Path) -> dict[str, ManifestRow]:
    return {row.key: row for row in read_manifest(manifest_url(str(kept(output)), "s"))[0]}


@pytest.mark.parametrize("image_format", FORMATS)
def test_an_untouched_copy_is_clean(
    image_format: ImageFormat, originals: Path, copy_in: Callable[[ImageFormat], Path]
) -> None:
    output = copy_in(image_format)
    assert {s.key: image_member(s).ext for s in samples_of(output)} == PUBLISHED[image_format]
    for key, row in rows_of(output).items():
        with open_shard(str(originals / "s.tar")) as reader:
            before = next(image_member(sample).data for sample in reader if sample.key == key)
        after = next(image_member(s).data for s in samples_of(output) if s.key == key)
        moved = np.abs(decode(before).pixels.astype(int) - decode(after).pixels.astype(int))
        assert row.linf == moved.max()
        if PUBLISHED[image_format][key] != "jpg":
            assert row.linf == 8
    assert check(output).violations == []
    assert check(output, originals).violations == []


@pytest.mark.parametrize("image_format", FORMATS)
def test_a_jpeg_with_other_pixels_is_found_also_with_its_hash_forged(
    image_format: ImageFormat, originals: Path, copy_in: Callable[[ImageFormat], Path]
) -> None:
    output = copy_in(image_format)
    image = next(image_member(sample) for sample in samples_of(output) if sample.key == "a")
    pixels = decode(image.data).pixels.copy()
    pixels[8:16, 8:16] ^= 64
    data = saved(pixels, "JPEG")
    publish_image(output, "a", data)
    assert set(check(output).counts) == {"image_changed", "shard_changed"}
    url = manifest_url(str(kept(output)), "s")
    rows, metadata = read_manifest(url)
    rows[0] = replace(rows[0], output_sha256=hashlib.sha256(data).hexdigest())
    write_manifest(url, rows, metadata)
    forged = {"shard_changed", "manifest_changed"}
    assert forged <= set(check(output).counts)
    assert "image_changed" not in check(output).counts
    report = check(output, originals)
    assert "measure_mismatch" in report.counts
    assert {v.key for v in report.violations if v.code == "measure_mismatch"} == {"a"}


def test_a_jpeg_gets_the_first_tables_that_keep_its_budget(tmp_path: Path) -> None:
    smooth = np.full((48, 48, 3), 120, np.uint8)
    busy = np.random.default_rng(3).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    samples = [
        Sample(key, (Member(f"{key}.jpg", "jpg", saved(pixels, "JPEG")), CAPTION[key]), row)
        for row, (key, pixels) in enumerate({"a": smooth, "b": busy}.items())
    ]
    (tmp_path / "in").mkdir()
    write_shard(tmp_path / "in" / "s.tar", samples)
    output = tmp_path / "out"
    config = ProtectConfig(str(tmp_path / "in"), str(output), method="random", executor="local")
    assert protect(replace(config, image_format="same")).exit_code == 0
    rows = rows_of(output)
    assert all(row.linf is not None and row.linf <= 8 + JPEG_SLACK for row in rows.values())
    _, metadata = read_manifest(manifest_url(str(kept(output)), "s"))
    assert "the picture that is encoded differs by at most 8" in metadata["budget"]
    tables = {}
    for sample in samples_of(output):
        with Image.open(io.BytesIO(image_member(sample).data)) as image:
            tables[sample.key] = sum(image.quantization[0]), image.layer[0][1:3]
    own = sum(decode(saved(smooth, "JPEG")).jpeg.tables[0])
    # The busy one needs finer tables than the input's to keep within its budget.
    assert tables["a"] == (own, (2, 2))
    assert tables["b"][0] < own
    assert check(output, tmp_path / "in").violations == []


def test_a_jpeg_beyond_its_budget_is_found_also_with_its_row_forged(
    originals: Path, copy_in: Callable[[ImageFormat], Path]
) -> None:
    output = copy_in("same")
    image = next(image_member(sample) for sample in samples_of(output) if sample.key == "a")
    pixels = decode(image.data).pixels.copy()
    pixels[:8, :8] ^= 64
    publish_image(output, "a", saved(pixels, "JPEG"))
    url = manifest_url(str(kept(output)), "s")
    rows, metadata = read_manifest(url)
    rows[0] = replace(rows[0], linf=64)
    write_manifest(url, rows, metadata)
    for source in (None, originals):
        report = check(output, source)
        assert {v.key for v in report.violations if v.code == "budget_exceeded"} == {"a"}


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (lambda data: data[: len(data) // 2], "image_unreadable"),
        (lambda data: saved(decode(data).pixels, "PNG"), "image_changed"),
    ],
    ids=["cut", "png under the name of a jpeg"],
)
def test_a_damaged_jpeg_is_found(
    damage: Callable[[bytes], bytes],
    code: str,
    originals: Path,
    copy_in: Callable[[ImageFormat], Path],
) -> None:
    output = copy_in("same")
    image = next(image_member(sample) for sample in samples_of(output) if sample.key == "a")
    publish_image(output, "a", damage(image.data))
    for source in (None, originals):
        report = check(output, source)
        assert {"shard_changed", code} <= set(report.counts)
        assert {v.key for v in report.violations if v.code == code} == {"a"}
