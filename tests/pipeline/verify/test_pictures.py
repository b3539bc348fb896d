"""Copies of pictures of every kind: what stays, what is told, and what `verify` finds in others."""

from __future__ import annotations

import gzip
import hashlib
import io
import shutil
import tarfile
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from manifests import write_manifest
from pictures import cmyk_profile, iptc, jpeg_with, p3_profile, png_with, saved, xmp
from PIL import Image
from runs import kept

from unlearnable.pipeline.data.images import decode, encode, image_member, replace_image
from unlearnable.pipeline.data.ledger import read_record
from unlearnable.pipeline.data.manifest import ManifestRow, manifest_url, read_manifest
from unlearnable.pipeline.data.metadata import NOTHING
from unlearnable.pipeline.data.shards import Member, Sample, open_shard, write_shard
from unlearnable.pipeline.errors import ShardError
from unlearnable.pipeline.execution.config import ProtectConfig, PublishConfig
from unlearnable.pipeline.execution.protect import protect
from unlearnable.pipeline.execution.publish import publish
from unlearnable.pipeline.verify.config import VerifyConfig
from unlearnable.pipeline.verify.verify import VerifyReport, verify

RNG = np.random.default_rng(0)
PHOTO = np.kron(RNG.integers(60, 190, (8, 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)
GREY = PHOTO[..., 0]
ALPHA = np.zeros((64, 64), np.uint8)
ALPHA[8:, 8:], ALPHA[20:30, 20:30] = 255, 100


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112], exif[0x8298] = 6, "(c) Ada"
    return saved(Image.fromarray(PHOTO), "JPEG", exif=exif, quality=90)


def sources() -> dict[str, bytes]:
    photo, rgba = Image.fromarray(PHOTO), Image.fromarray(np.dstack([PHOTO, ALPHA]))
    return {
        "p3.png": saved(photo, "PNG", icc_profile=p3_profile()),
        "p3jpeg.jpg": saved(photo, "JPEG", icc_profile=p3_profile()),
        "cicp.png": png_with(PHOTO, (b"cICP", b"\x0c\x0d\0\1")),
        "turned.jpg": turned(),
        "rights.png": png_with(PHOTO, (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp())),
        "iptc.jpg": jpeg_with(PHOTO, (0xED, b"Photoshop 3.0\0" + iptc(n110=b"Ada"))),
        "rgba.png": saved(rgba, "PNG"),
        "rgba.webp": saved(rgba, "WEBP", lossless=True, exact=True),
        "grey.png": saved(Image.fromarray(GREY), "PNG"),
        "grey.jpg": saved(Image.fromarray(GREY), "JPEG"),
        "greyrgb.png": saved(Image.fromarray(np.dstack([GREY] * 3)), "PNG"),
        "la.png": saved(Image.fromarray(np.dstack([GREY, ALPHA])), "PNG"),
        "deep.png": saved(Image.fromarray(GREY.astype(np.uint16) * 257), "PNG"),
        "cmyk.tiff": saved(photo.convert("CMYK"), "TIFF", icc_profile=cmyk_profile()),
        "plain.jpg": saved(photo.convert("CMYK"), "JPEG"),
        "photo.avif": saved(photo, "AVIF"),
        "photo.jfif": saved(photo, "JPEG"),
        "again.jfif": saved(photo, "JPEG"),
        "named.jpg.bak": saved(photo, "JPEG", progressive=True),
    }


def write_corpus(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir()
    samples = []
    for row, (name, data) in enumerate(files.items()):
        stem, ext = name.split(".", 1)
        key = f"{stem}-{ext.replace('.', '-')}"
        members = (Member(f"{key}.{ext}", ext, data), Member(f"{key}.txt", "txt", b"a dog"))
        samples.append(Sample(key, members, row))
    write_shard(folder / "s.tar", samples)
    return folder


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("kinds") / "in", sources())


def made(source: Path, output: Path, **options: object) -> Path:
    config = ProtectConfig(str(source), str(output), method="random", executor="local")
    summary = protect(replace(config, **options))
    assert summary.exit_code == 0, str(summary)
    return output


@pytest.fixture(scope="module")
def copied(originals: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(originals, tmp_path_factory.mktemp("kinds") / "out")


def samples_of(output: Path) -> dict[str, Sample]:
    with open_shard(str(output / "s.tar")) as reader:
        return {sample.key: sample for sample in reader}


def rows_of(output: Path) -> dict[str, ManifestRow]:
    return {row.key: row for row in read_manifest(manifest_url(str(kept(output)), "s"))[0]}


def check(output: Path, originals: Path | None = None) -> VerifyReport:
    return verify(VerifyConfig(str(output), against=str(originals) if originals else None))


def test_a_copy_of_every_kind_keeps_its_promises(originals: Path, copied: Path) -> None:
    assert check(copied).violations == []
    assert check(copied, originals).violations == []
    before, after = samples_of(originals), samples_of(copied)
    assert list(after) == list(before)
    kept_names = {
        key for key in after if image_member(after[key]).name == image_member(before[key]).name
    }
    assert set(after) - kept_names == {"cmyk-tiff"}
    for key in after:
        one, other = decode(image_member(before[key]).data), decode(image_member(after[key]).data)
        assert other.kept.colour == one.kept.colour, key
        assert other.grey == one.grey, key
        assert (other.alpha is None) == (one.alpha is None), key
        assert not np.array_equal(one.values, other.values), key
        if one.alpha is not None:
            hidden = one.alpha == 0
            np.testing.assert_array_equal(one.values[hidden], other.values[hidden])
        if "grey" in key:
            assert (other.values[..., :1] == other.values).all(), key
    assert b"(c) Ada" in decode(image_member(after["turned-jpg"]).data).kept.exif
    with Image.open(io.BytesIO(image_member(after["turned-jpg"]).data)) as image:
        assert image.getexif()[0x0112] == 1
    with Image.open(io.BytesIO(image_member(after["named-jpg-bak"]).data)) as image:
        assert (image.format, bool(image.info.get("progressive"))) == ("JPEG", True)


@pytest.mark.parametrize("image_format", ["jpeg", "png", "webp"])
def test_copies_in_one_format_keep_the_same_promises(
    image_format: str, originals: Path, tmp_path: Path
) -> None:
    output = made(originals, tmp_path / "out", image_format=image_format, max_quarantined=0.1)
    assert check(output, originals).violations == []
    rows = rows_of(output)
    assert {row.status for row in rows.values()} == {"protected"}
    if image_format == "jpeg":
        assert "alpha_flattened" in (rows["rgba-png"].notes or [])


def test_what_was_converted_and_repeated_is_told(originals: Path, copied: Path) -> None:
    rows = rows_of(copied)
    assert rows["cmyk-tiff"].notes == ["profile_converted"]
    assert "cmyk_without_profile" in (rows["plain-jpg"].notes or [])
    assert "sixteen_bit" in (rows["deep-png"].notes or [])
    assert rows["again-jfif"].notes == ["repeated"]
    assert rows["again-jfif"].picture_digest == rows["photo-jfif"].picture_digest
    record = read_record(str(kept(copied)), "s")
    assert record is not None
    assert record.notes["repeated"] >= 1
    summary = str(protect(ProtectConfig(str(originals), str(copied), method="random")))
    assert "x the same picture as in an earlier sample of the shard" in summary


def doctored(copied: Path, folder: Path, key: str, data: bytes, *more: Member) -> Path:
    """Return a copy whose picture of ``key`` has other bytes, with its hash forged in the row."""
    output = folder / "out"
    shutil.copytree(copied, output)
    shutil.copytree(kept(copied), kept(output))
    samples = list(samples_of(output).values())
    place = next(place for place, sample in enumerate(samples) if sample.key == key)
    source = image_member(samples[place])
    members = replace_image(samples[place].members, source, data, source.ext)
    samples[place] = replace(samples[place], members=(*members, *more))
    write_shard(output / "s.tar", samples)
    url = manifest_url(str(kept(output)), "s")
    rows, metadata = read_manifest(url)
    rows = [
        replace(row, output_sha256=hashlib.sha256(data).hexdigest()) if row.key == key else row
        for row in rows
    ]
    write_manifest(url, rows, metadata)
    return output


def stripped(data: bytes) -> bytes:
    """Return the same pixels in the same form without any metadata."""
    found = decode(data)
    parts = found.values if found.alpha is None else np.dstack([found.values, found.alpha])
    return encode(parts, found.source_format, found.jpeg, NOTHING)


def opaque(data: bytes) -> bytes:
    found = decode(data)
    assert found.alpha is not None
    return encode(np.dstack([found.values, np.maximum(found.alpha, 9)]), "png", None, found.kept)


def tinted(data: bytes) -> bytes:
    values = decode(data).values.copy()
    values[0, 0] = values[0, 0, 0], values[0, 0, 0] ^ 1, values[0, 0, 0]
    return encode(values, "png")


def in_colour(data: bytes) -> bytes:
    return encode(decode(data).values, "png")


def with_thumbnail(data: bytes) -> bytes:
    small = saved(Image.fromarray(PHOTO[:8, :8]), "JPEG")
    found = decode(data)
    irb = b"8BIM\x04\x0c\0\0" + len(small).to_bytes(4, "big") + small
    return encode(found.values, "png", None, replace(found.kept, irb=irb))


@pytest.mark.parametrize(
    ("key", "change", "code", "by_reader"),
    [
        ("p3-png", stripped, "colour_changed", False),
        ("p3jpeg-jpg", stripped, "colour_changed", False),
        ("cicp-png", stripped, "colour_changed", False),
        ("rgba-png", opaque, "colour_changed", False),
        ("greyrgb-png", tinted, "colour_changed", False),
        ("grey-png", in_colour, "colour_changed", False),
        ("turned-jpg", stripped, "rights_changed", False),
        ("rights-png", stripped, "rights_changed", False),
        ("iptc-jpg", stripped, "rights_changed", False),
        ("cicp-png", with_thumbnail, "original_shown", True),
        ("grey-jpg", lambda data: data + saved(Image.fromarray(PHOTO), "JPEG"), "original_shown",
         True),
    ],
)  # fmt: skip
def test_verify_finds_what_was_changed(
    key: str,
    change: Callable[[bytes], bytes],
    code: str,
    by_reader: bool,
    originals: Path,
    copied: Path,
    tmp_path: Path,
) -> None:
    data = change(image_member(samples_of(copied)[key]).data)
    output = doctored(copied, tmp_path, key, data)
    report = check(output, originals)
    assert {v.key for v in report.violations if v.code == code} == {key}
    assert (code in check(output).counts) == by_reader
    shutil.rmtree(kept(output))
    assert (code in check(output).counts) == by_reader


@pytest.mark.parametrize("name", ["jfif", "avif", "orig", "jpg.bak", "json.gz", "b64", "gz"])
def test_an_unprotected_picture_is_found_with_and_without_the_record(
    name: str, originals: Path, copied: Path, tmp_path: Path
) -> None:
    key = "p3-png"
    whole = saved(Image.fromarray(PHOTO), "AVIF" if name == "avif" else "JPEG")
    whole = {"b64": b64encode, "gz": gzip.compress}.get(name, bytes)(whole)
    data = image_member(samples_of(copied)[key]).data
    output = doctored(copied, tmp_path, key, data, Member(f"{key}.{name}", name, whole))
    for report in (check(output, originals), check(output)):
        assert {v.key for v in report.violations if v.code == "image_unprotected"} == {key}
    shutil.rmtree(kept(output))
    assert check(output).counts["image_unprotected"] == 1


@pytest.mark.parametrize("name", ["jfif", "avif", "tiff", "JPG.bak"])
def test_a_sample_with_a_second_picture_is_not_published(name: str, tmp_path: Path) -> None:
    picture = saved(Image.fromarray(PHOTO), "AVIF" if name == "avif" else "JPEG")
    one = (Member("a.jpg", "jpg", picture), Member("a.txt", "txt", b"a dog"))
    two = (Member("b.jpg", "jpg", picture), Member(f"b.{name}", name.lower(), picture),
           Member("b.txt", "txt", b"a dog"))  # fmt: skip
    (tmp_path / "in").mkdir()
    write_shard(tmp_path / "in" / "s.tar", [Sample("a", one, 0), Sample("b", two, 1)])
    output = made(tmp_path / "in", tmp_path / "out", max_quarantined=1.0)
    assert list(samples_of(output)) == ["a"]
    row = rows_of(output)["b"]
    assert (row.status, row.reason) == ("quarantined", "several_images")
    assert row.detail is not None
    assert f"b.{name}" in row.detail


@pytest.mark.parametrize("image_format", ["same", "png"])
def test_every_picture_of_a_sample_is_protected_on_request(
    image_format: str, tmp_path: Path
) -> None:
    small = Image.fromarray(PHOTO).resize((40, 24))
    members = (
        Member("a.jpg", "jpg", saved(Image.fromarray(PHOTO), "JPEG", quality=90)),
        Member("a.left.png", "left.png", saved(small, "PNG")),
        Member("a.txt", "txt", b"a dog"),
        Member("a.right.orig", "right.orig", saved(Image.fromarray(GREY), "JPEG")),
    )
    source = tmp_path / "in"
    source.mkdir()
    write_shard(source / "s.tar", [Sample("a", members, 0)])
    output = made(source, tmp_path / "out", images="all", image_format=image_format)
    assert check(output, source).violations == []
    assert rows_of(output)["a"].pictures == 3
    published = samples_of(output)["a"]
    for before, after in zip(members, published.members, strict=True):
        if before.ext != "txt":
            one, other = decode(before.data).values, decode(after.data).values
            moved = np.abs(one.astype(int) - other.astype(int))
            assert moved.mean() > 1, before.name
            if other.shape == (24, 40, 3) or image_format == "png":
                assert moved.max() <= 8
    if image_format == "png":
        return
    # The last of them as it came, and then one more of them.
    write_shard(
        output / "s.tar", [replace(published, members=(*published.members[:3], members[3]))]
    )
    assert "image_unprotected" in check(output, source).counts
    more = Member("a.more", "more", members[0].data)
    write_shard(output / "s.tar", [replace(published, members=(*published.members, more))])
    assert "image_unprotected" in check(output).counts


def test_rights_are_reserved_and_location_dropped_on_request(tmp_path: Path) -> None:
    source = write_corpus(
        tmp_path / "in", {k: v for k, v in sources().items() if "rights" in k or "turned" in k}
    )
    options = {"reserve": True, "drop_location": True, "license": "cc-by-nc-4.0"}
    output = made(source, tmp_path / "out", **options)
    assert check(output, source).violations == []
    for sample in samples_of(output).values():
        assert b"DMI-PROHIBITED" in image_member(sample).data
        assert b"licenses/by-nc/4.0/" in image_member(sample).data
    assert '"tdm-reservation": 1' in (output / "tdmrep.json").read_text()
    assert "ext and data mining" in (output / "README.md").read_text()
    (output / "tdmrep.json").unlink()
    assert "card_mismatch" in check(output, source).counts
    key = "turned-jpg"
    data = image_member(samples_of(output)[key]).data
    for statement in (b"DMI-PROHIBITED", b"licenses/by-nc/4.0/"):
        silent = data.replace(statement, b"x" * len(statement))
        report = check(doctored(output, tmp_path / statement.decode()[:4], key, silent), source)
        assert {v.key for v in report.violations if v.code == "rights_changed"} == {key}


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ([("README", b"words")], "0 samples"),
        ([("a.txt", b"a dog")], "missing_image 1"),
        ([("a.png", saved(Image.fromarray(PHOTO), "PNG"))], "missing_caption 1"),
        ([("a.png", b"no picture"), ("a.txt", b"a dog")], "image_undecodable 1"),
    ],
    ids=["a README", "no picture", "no caption", "all quarantined"],
)
def test_nothing_protected_is_no_success(
    members: list[tuple[str, bytes]], told: str, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    with tarfile.open(tmp_path / "in" / "s.tar", "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    output = tmp_path / "out"
    config = ProtectConfig(
        str(tmp_path / "in"), str(output), method="random", executor="local", max_quarantined=1.0
    )
    for _ in range(2):
        summary = protect(config)
        assert summary.exit_code == 3
        assert "nothing is protected" in str(summary)
        assert told in str(summary)
    assert not (output / "_SUCCESS").exists()
    with pytest.raises(ShardError, match="no protected sample"):
        publish(PublishConfig(str(output)))
    report = check(output)
    assert {"nothing_protected", "not_finished"} <= set(report.counts)


def test_the_input_may_be_one_shard_beside_the_output(tmp_path: Path) -> None:
    source = write_corpus(tmp_path / "in", {"a.png": saved(Image.fromarray(PHOTO), "PNG")})
    output = source / "out"
    config = ProtectConfig(str(source / "s.tar"), str(output), method="random", executor="local")
    assert protect(config).exit_code == 0
    assert protect(config).exit_code == 0
    assert check(output, source / "s.tar").violations == []
