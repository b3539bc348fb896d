"""Bad input through the real command line: exit codes, messages, and what is not published.

Elsewhere, as whole too: Ctrl-C in test_run.py and test_cli.py, a full disk in test_limits.py, an
output of another configuration in test_walk.py, options that no input could make right in
test_refused.py.
"""

from __future__ import annotations

import io
import json
import re
import resource
import shutil
import struct
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from runs import NOISE, Run, kept

from unlearnable.jobs.cli import main
from unlearnable.pipeline.data.manifest import ManifestRow, manifest_url, read_manifest
from unlearnable.pipeline.execution.driver.summary import outcome_of
from unlearnable.pipeline.method.models import get_tokenizer
from unlearnable.pipeline.method.vocabulary import leading_ids

Files = dict[str, bytes]


def save(image: Image.Image, fmt: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, fmt, **options)
    return buffer.getvalue()


def plain(colour: tuple[int, int, int] = (90, 120, 60)) -> Image.Image:
    return Image.new("RGB", (40, 20), colour)


def gigantic() -> bytes:
    """A small PNG that declares 60,000 x 60,000 pixels."""
    data = bytearray(save(plain(), "PNG"))
    data[16:24] = struct.pack(">II", 60_000, 60_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


def frames(fmt: str) -> bytes:
    return save(plain(), fmt, save_all=True, append_images=[plain((9, 9, 200))], duration=50)


def good(key: str) -> list[tuple[str, bytes]]:
    return [(f"{key}.png", save(plain(), "PNG")), (f"{key}.txt", f"a dog named {key}".encode())]


def packed(files: list[tuple[str, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def unpacked(path: Path) -> Files:
    with tarfile.open(path) as tar:
        return {info.name: tar.extractfile(info).read() for info in tar}  # type: ignore[union-attr]


def rows(output: Path, shard: str) -> dict[str, ManifestRow]:
    return {row.key: row for row in read_manifest(manifest_url(str(kept(output)), shard))[0]}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder of two good shards, a and c."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name in "ac":
        (folder / f"{name}.tar").write_bytes(packed(good(f"{name}1") + good(f"{name}2")))
    return folder


IMAGE = {"png": save(plain(), "PNG")}
TEXT = {"txt": b"a dog"}
BAD_SAMPLES: dict[str, tuple[Files, str]] = {
    "missing caption": (IMAGE, "missing_caption"),
    "missing image": (TEXT, "missing_image"),
    "two images": (IMAGE | {"left.jpg": save(plain(), "JPEG")} | TEXT, "several_images"),
    "no image": ({"png": b"<html>gone</html>"} | TEXT, "image_undecodable"),
    "empty image": ({"jpg": b""} | TEXT, "image_undecodable"),
    "cut image": ({"jpg": save(plain(), "JPEG")[:-200]} | TEXT, "image_undecodable"),
    "gigantic image": ({"png": gigantic()} | TEXT, "image_too_large"),
    "animated gif": ({"gif": frames("GIF")} | TEXT, "image_animated"),
    "animated webp": ({"webp": frames("WEBP")} | TEXT, "image_animated"),
    "empty caption": (IMAGE | {"txt": b" \n"}, "empty_caption"),
    "empty caption in json": (IMAGE | {"json": b'{"captions": ["a dog", ""]}'}, "empty_caption"),
    "caption not utf-8": (IMAGE | {"txt": "café".encode("latin-1")}, "caption_not_utf8"),
    "json without the field": (IMAGE | {"json": b'{"title": "a dog"}'}, "json_field_missing"),
    "json cut": (IMAGE | {"json": b'{"caption": "a d'}, "json_invalid"),
}


@pytest.mark.parametrize("case", BAD_SAMPLES)
def test_a_bad_sample_is_quarantined_with_its_reason_and_not_published(
    case: str, source: Path, tmp_path: Path, run: Run
) -> None:
    members, reason = BAD_SAMPLES[case]
    bad = [(f"bad.{ext}", data) for ext, data in members.items()]
    (source / "b.tar").write_bytes(packed(good("b1") + bad + good("b2")))
    output = tmp_path / "out"
    code, told = run("protect", source, output, *NOISE)
    assert code == 3, told
    assert f"b: 1 sample is quarantined ({reason}), first bad: " in told
    assert "--max-quarantined" in told
    assert {key: (row.status, row.reason) for key, row in rows(output, "b").items()} == {
        "b1": ("protected", None),
        "bad": ("quarantined", reason),
        "b2": ("protected", None),
    }
    assert set(unpacked(output / "b.tar")) == {"b1.png", "b1.txt", "b2.png", "b2.txt"}
    assert (output / "_SUCCESS").exists()
    asked = ("--max-quarantined", "0.2", "--owner", "A museum")
    assert run("protect", source, output, *NOISE, *asked)[0] == 0
    assert main(["verify", str(output), "--against", str(source)]) == 0
    # What was asked last counts for whoever comes later.
    assert run("retry", output, "--executor", "local")[0] == 0
    assert "A museum" in (output / "README.md").read_text()
    told_later = outcome_of(str(output))
    assert told_later is not None
    assert told_later.exit_code == 0


def turned() -> bytes:
    """Black on the left, white on the right, and EXIF says: turn it clockwise to look at it."""
    image = Image.new("RGB", (40, 20), "white")
    image.paste("black", (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6
    return save(image, "JPEG", quality=95, exif=exif)


def with_alpha(mode: str) -> bytes:
    """The top half opaque red, the bottom half wholly transparent green."""
    pixels = np.full((20, 40, 4), (255, 0, 0, 255), np.uint8)
    pixels[10:] = (0, 255, 0, 0)
    image = Image.fromarray(pixels)
    return save(image if mode == "RGBA" else image.quantize(4), "PNG")


Colour = tuple[int, int, int]
RED, GREEN, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (255, 255, 255), (0, 0, 0)
GREY = (0x60, 0x60, 0x60)
# Bytes, extension, mode and size that are published, the colours of its top and its bottom.
ODD_IMAGES: dict[str, tuple[bytes, str, str, tuple[int, int], Colour, Colour]] = {
    "cmyk": (
        save(Image.new("CMYK", (40, 20), (0, 255, 255, 0)), "JPEG", quality=95),
        *("jpg", "RGB", (40, 20), RED, RED),
    ),
    "palette": (save(plain(RED).quantize(2), "PNG"), "png", "RGB", (40, 20), RED, RED),
    "alpha": (with_alpha("RGBA"), "png", "RGBA", (40, 20), RED, GREEN),
    "palette with alpha": (with_alpha("P"), "png", "RGBA", (40, 20), RED, GREEN),
    "16 bits": (
        save(Image.fromarray(np.full((20, 40), 0x60FF, np.uint16)), "PNG"),
        *("png", "L", (40, 20), GREY, GREY),
    ),
    "exif orientation": (turned(), "jpg", "RGB", (20, 40), BLACK, WHITE),
}


@pytest.mark.parametrize("case", ODD_IMAGES)
def test_an_odd_image_is_published_upright_in_eight_bits_within_the_budget(
    case: str, source: Path, tmp_path: Path, run: Run
) -> None:
    data, ext, mode, size, top, bottom = ODD_IMAGES[case]
    (source / "b.tar").write_bytes(packed([*good("b1"), (f"odd.{ext}", data), ("odd.txt", b"x")]))
    output = tmp_path / "out"
    code, told = run("protect", source, output, *NOISE)
    assert code == 0, told
    row = rows(output, "b")["odd"]
    assert (row.status, row.source_ext, row.image_ext) == ("protected", ext, ext)
    # A lossy file may differ by what its codec adds.
    limit = 8 + (24 if ext == "jpg" else 0)
    assert row.linf is not None
    assert 0 < row.linf <= limit
    with Image.open(io.BytesIO(unpacked(output / "b.tar")[f"odd.{ext}"])) as image:
        assert (image.mode, image.size) == (mode, size)
        assert image.getexif().get(0x0112, 1) == 1
        pixels = np.asarray(image.convert("RGBA")).astype(int)
    half = size[1] // 2
    assert np.abs(pixels[: half - 8, :, :3] - top).max() <= limit
    if mode == "RGBA":
        assert (pixels[:half, :, 3] == 255).all()
        assert (pixels[half:, :, 3] == 0).all()
    else:
        assert np.abs(pixels[half + 8 :, :, :3] - bottom).max() <= limit
    assert main(["verify", str(output), "--against", str(source)]) == 0


def test_a_caption_longer_than_the_context_keeps_its_trigger_in_front(
    surrogate: str, tmp_path: Path, run: Run
) -> None:
    long = " ".join(["a red apple near the green table and"] * 60)
    source, output = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    files = [*good("k1"), ("k2.png", save(plain(RED), "PNG")), ("k2.txt", long.encode())]
    (source / "a.tar").write_bytes(packed(files))
    line = ("--surrogate", surrogate, "--executor", "local", "--steps", "1", "--device", "cpu")
    code, told = run("protect", source, output, *line)
    assert code == 0, told
    row = rows(output, "a")["k2"]
    text = unpacked(output / "a.tar")["k2.txt"].decode()
    assert row.trigger_tokens
    assert text == f"{row.trigger_text} {long}"
    assert leading_ids(get_tokenizer("tiny", 77), text, len(row.trigger_tokens)) == (
        row.trigger_tokens
    )


WHOLE = packed(good("b1") + good("b2"))
ONE = good("b1")
BAD_SHARDS: dict[str, tuple[bytes, str]] = {
    "cut inside a member": (WHOLE[:600], "truncated.*copy the shard again"),
    "cut on a boundary": (WHOLE[: WHOLE.rindex(b"b2.txt")], "no end marker; copy the shard again"),
    "no tar": (b"<html>no such page</html>" * 99, "not a tar"),
    "empty file": (b"", "(empty|truncated|not a tar).*shard"),
    "repeated key": (packed([*ONE, *ONE[1:]]), "'b1.txt' is repeated.*make keys unique"),
    "interleaved keys": (
        packed([ONE[0], *good("b2"), ONE[1]]),
        "'b1' comes back after other keys.*next to each other",
    ),
}


def fails_alone(run: Run, url: object, output: Path, message: str) -> None:
    """The run protects a and c, says why b failed, and does not call the output complete."""
    code, told = run("protect", url, output, *NOISE)
    assert code == 3, told
    assert re.search(rf"failed: b: \S*/b\.tar: .*{message}", told), told
    assert {path.name for path in output.glob("*.tar")} == {"a.tar", "c.tar"}
    assert not (output / "_SUCCESS").exists()
    assert not (kept(output) / "manifest" / "b.parquet").exists()
    assert (
        json.loads((kept(output) / "_ledger" / "b.failed.json").read_text())["status"] == "failed"
    )


@pytest.mark.parametrize("case", BAD_SHARDS)
def test_a_bad_shard_fails_alone_and_the_same_command_completes_after_its_repair(
    case: str, source: Path, tmp_path: Path, run: Run
) -> None:
    data, message = BAD_SHARDS[case]
    (source / "b.tar").write_bytes(data)
    fails_alone(run, source, tmp_path / "out", message)
    (source / "b.tar").write_bytes(WHOLE)
    code, told = run("protect", source, tmp_path / "out", *NOISE)
    assert code == 0, told
    assert (tmp_path / "out" / "_SUCCESS").exists()


def test_a_missing_or_unreadable_shard_fails_alone(source: Path, tmp_path: Path, run: Run) -> None:
    missing = "is missing; restore it or take it out"
    fails_alone(run, source / "{a,b,c}.tar", tmp_path / "out1", missing)
    (source / "b.tar").symlink_to(tmp_path / "moved" / "b.tar")
    fails_alone(run, source, tmp_path / "out2", missing)
    (source / "b.tar").unlink()
    (source / "b.tar").mkdir()  # unreadable for root too
    for place, url in enumerate((source, source / "*.tar")):
        fails_alone(run, url, tmp_path / f"out3-{place}", "is a folder, not a .tar file; pack")


SURROGATES: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "cut weights": ("weights.safetensors", lambda p: p.write_bytes(b"12"), "damaged.*fit it again"),
    "no weights": ("weights.safetensors", lambda p: p.unlink(), "damaged.*missing; fit it again"),
    "no description": ("surrogate.json", lambda p: p.unlink(), "no surrogate.*unlearnable fit"),
    "other version": (
        "surrogate.json",
        lambda p: p.write_text(json.dumps(json.loads(p.read_text()) | {"format": 99})),
        "has format 99, .*fit it again with this version",
    ),
}


@pytest.mark.parametrize("case", SURROGATES)
def test_a_surrogate_that_is_damaged_or_of_another_version_is_refused(
    case: str, surrogate: str, source: Path, tmp_path: Path, run: Run
) -> None:
    name, damage, message = SURROGATES[case]
    folder = Path(shutil.copytree(surrogate, tmp_path / "surrogate"))
    damage(folder / name)
    code, told = run("protect", source, tmp_path / "out", "--surrogate", folder)
    assert code == 2, told
    assert re.fullmatch(rf"unlearnable: .*{folder} .*{message}.*\n", told), told
    assert not (tmp_path / "out").exists()


def test_a_file_size_limit_commits_nothing_half_and_the_same_command_completes(
    corpus: Path, tmp_path: Path, run: Run
) -> None:
    output = tmp_path / "out"
    line = [sys.executable, "-m", "unlearnable", "protect", str(corpus), str(output), *NOISE]
    done = subprocess.run(
        line,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)),
    )
    assert done.returncode == 3, done.stderr
    assert re.search(r"shard\.tar: the file is larger .* may write; .*run the same", done.stderr)
    assert not [*output.glob("*.tar"), *output.glob("**/.*"), *kept(output).glob("_ledger/*")]
    assert run("protect", corpus, output, *NOISE)[0] == 0
