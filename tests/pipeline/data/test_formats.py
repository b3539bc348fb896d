"""A picture is told by its bytes, whatever its name; what cannot be read is named."""

from __future__ import annotations

import gzip
import io
import json
import sys
from base64 import b64encode

import numpy as np
import pytest
from PIL import Image

from unlearnable.pipeline.data import formats
from unlearnable.pipeline.data.formats import HEAD, decoders, is_picture, sniff
from unlearnable.pipeline.data.images import decode, image_member
from unlearnable.pipeline.data.shards import Limits, Member, Sample, open_shard, write_shard
from unlearnable.pipeline.errors import SampleError

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 30, 3), np.uint8)
BY_PILLOW = {
    "PNG": "png", "JPEG": "jpeg", "WEBP": "webp", "AVIF": "avif", "GIF": "gif", "BMP": "bmp",
    "TIFF": "tiff", "PPM": "ppm", "JPEG2000": "jpeg2000", "ICO": "ico", "DDS": "dds", "QOI": "qoi",
}  # fmt: skip
HEIC = b"\0\0\0\x1cftypheic\0\0\0\0mif1heicmiaf" + bytes(600)
JXL = b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(600)


def saved(fmt: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, fmt)
    return buffer.getvalue()


@pytest.mark.parametrize(("fmt", "name"), BY_PILLOW.items())
def test_a_picture_is_told_by_its_bytes(fmt: str, name: str) -> None:
    data = saved(fmt)
    assert sniff(data[:HEAD]) == name
    assert is_picture("jpg.bak", data[:HEAD])


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (HEIC, "heif"),
        (JXL, "jxl"),
        (b"\xff\x0a\x00", "jxl"),
        (b"8BPS\0\1", "psd"),
        (b'<?xml version="1.0"?>\n<!-- a -->\n<svg xmlns="http://www.w3.org/2000/svg">', "svg"),
        (b"P7\nWIDTH 3\n", "ppm"),
        (b"PF\n3 3\n-1.0\n", "ppm"),
        (b"FUJIFILMCCD-RAW 0201", "raf"),
        (b"IIU\0\x18\0\0\0", "rw2"),
        (b"FLIF40", "flif"),
        (b"%PDF-1.7", "pdf"),
        (bytes(128) + b"DICM", "dicom"),
        (saved("PCX"), "pcx"),
        (saved("SGI"), "sgi"),
        (saved("EPS")[:HEAD], "eps"),
        (b"#define k_width 8\n#define k_height 8\n", "xbm"),
    ],
)
def test_pictures_that_pillow_does_not_write(data: bytes, name: str) -> None:
    assert sniff(data) == name


@pytest.mark.parametrize(
    "data",
    [b"", b"a dog", b"P6 is 120 cars", b"BM 40 dogs in a park, so many", b'{"caption": "<svg>"}',
     b"PF\nwas here", b"#define WIDTH 8", b"\nIt rains", bytes(600), b"%! a comment",
     b"RIFF\0\0\0\0WAVEfmt ", b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", b"GIF files", b"\x93NUMPY"],
)  # fmt: skip
def test_other_files_are_no_pictures(data: bytes) -> None:
    assert sniff(data) is None


JSON = {"caption": "a dog", "thumb": "data:image/jpeg;base64," + b64encode(saved("JPEG")).decode()}


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("k.b64", b64encode(saved("PNG"))),
        ("k.json", json.dumps(JSON).encode()),
        ("k.json", json.dumps(JSON).replace("/", "\\/").encode()),
        ("k.jsonl", b'{"a": "' + b64encode(saved("AVIF")) + b'"}'),
        ("k.html", b"<img src='data:image/webp;base64," + b64encode(saved("WEBP")) + b"'>"),
        ("k.gz", gzip.compress(saved("JPEG"), mtime=0)),
        ("k.tga", saved("TGA")),
        ("k.NEF", b"MM\0*"),
        ("k.cr3", b""),
    ],
)
def test_a_coded_packed_or_raw_picture_is_one(name: str, data: bytes) -> None:
    members = (Member("k.jpg", "jpg", saved("JPEG")), Member(name, name[2:].lower(), data))
    with pytest.raises(SampleError, match=name) as caught:
        image_member(Sample("k", members, 0))
    assert caught.value.reason == "several_images"


@pytest.mark.parametrize(
    "data",
    [b"a dog", b"/9j/", json.dumps({"caption": "iVBORw0KGgo", "hash": "A" * 300}).encode(),
     gzip.compress(b"words", mtime=0), b"\x1f\x8b damaged", bytes(300),
     json.dumps({"sound": b64encode(b"RIFF\x24\1\0\0WAVEfmt " + bytes(200)).decode()}).encode(),
     json.dumps({"film": b64encode(b"\0\0\0\x20ftypmp42" + bytes(200)).decode()}).encode()],
)  # fmt: skip
def test_other_text_and_packed_files_are_no_pictures(data: bytes) -> None:
    assert not Member("k.x", "x", data).is_picture


@pytest.mark.parametrize(
    ("data", "opaque"),
    [(b"words", False), ("é".encode(), False), ("é".encode("utf-16"), True), (b"\x93NUMPY", True),
     (b"\0\0\0\x18ftypmp42", True), (saved("PNG"), False)],
)  # fmt: skip
def test_what_is_neither_picture_nor_text_is_told(data: bytes, opaque: bool) -> None:
    assert Member("k.x", "x", data).is_opaque == opaque


@pytest.mark.parametrize("name", ["k.jfif", "k.avif", "k.tiff", "k.JPG.bak", "k.orig", "k.heic"])
@pytest.mark.parametrize("size", [0, 3 << 20])
def test_a_second_picture_of_any_name_and_size_is_found(name: str, size: int, tmp_path) -> None:
    data = (HEIC if name == "k.heic" else saved("AVIF" if "avif" in name else "JPEG")) + bytes(size)
    members = (Member("k.jpg", "jpg", saved("JPEG")), Member(name, name[2:], data))
    write_shard(tmp_path / "s.tar", [Sample("k", members, 0)])
    with open_shard(str(tmp_path / "s.tar"), Limits(), tmp_path) as reader:
        sample = next(iter(reader))
    with pytest.raises(SampleError, match=name) as caught:
        image_member(sample)
    assert caught.value.reason == "several_images"


def test_a_large_file_that_is_no_picture_is_passed_on(tmp_path) -> None:
    members = (Member("k.jpg", "jpg", saved("JPEG")), Member("k.wav", "wav", b"RIFF" * (1 << 19)))
    write_shard(tmp_path / "s.tar", [Sample("k", members, 0)])
    with open_shard(str(tmp_path / "s.tar"), folder=tmp_path) as reader:
        sample = next(iter(reader))
        assert sample.members[1].passed is not None
        assert image_member(sample).name == "k.jpg"


@pytest.mark.parametrize(
    ("data", "words"), [(HEIC, ["HEIF", "unlearnable[heic]"]), (JXL, ["JXL", "unlearnable[jxl]"])]
)
def test_a_missing_extra_is_named(
    data: bytes, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("pillow_heif", "pillow_jxl"):
        monkeypatch.setitem(sys.modules, module, None)
    decoders.cache_clear()
    try:
        with pytest.raises(SampleError) as caught:
            decode(data)
    finally:
        decoders.cache_clear()
    assert caught.value.reason == "image_unsupported"
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize("data", [b"", b"no picture", b"8BPS\0\1" + bytes(40), HEIC, JXL])
def test_no_message_holds_an_address(data: bytes) -> None:
    with pytest.raises(SampleError) as caught:
        decode(data)
    assert "0x" not in str(caught.value)


@pytest.mark.parametrize(("module", "fmt"), [("pillow_heif", "HEIF"), ("pillow_jxl", "JXL")])
def test_pictures_of_an_installed_extra_are_read(module: str, fmt: str) -> None:
    pytest.importorskip(module)
    assert fmt in formats.decoders()
    smooth = np.full((32, 48, 3), (200, 60, 60), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(smooth).save(buffer, fmt)
    found = decode(buffer.getvalue())
    assert found.source_format == fmt.lower()
    assert np.abs(found.pixels.astype(int) - smooth).max() <= 6
