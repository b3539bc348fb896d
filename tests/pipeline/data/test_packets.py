"""Statements of rights in formats where Pillow passes them over."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from pictures import saved, xmp
from PIL import Image

from unlearnable.pipeline.data.images import decode
from unlearnable.pipeline.data.packets import passed_over

PIXELS = np.full((24, 32, 3), (90, 120, 60), np.uint8)
UUID = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")


def gif() -> bytes:
    data = saved(Image.fromarray(PIXELS).quantize(4), "GIF")
    at = data.index(b"\x2c\0\0\0\0")
    trailer = b"\1" + bytes(range(255, -1, -1)) + b"\0"
    return data[:at] + b"\x21\xff\x0bXMP DataXMP" + xmp() + trailer + data[at:]


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def jpeg2000() -> bytes:
    data = saved(Image.fromarray(PIXELS), "JPEG2000")
    at = data.index(b"jp2c") - 4
    return data[:at] + box(b"uuid", UUID + xmp()) + data[at:]


@pytest.mark.parametrize("make", [gif, jpeg2000])
def test_xmp_is_read(make) -> None:
    found = decode(make())
    assert found.kept.xmp == xmp()
    assert found.notes == set()


def test_xmp_of_jpeg_xl_is_read_and_packed_boxes_are_told() -> None:
    head = b"\0\0\0\x0cJXL \r\n\x87\n"
    assert passed_over("JXL", head + box(b"xml ", xmp())) == ({"xmp": xmp()}, False)
    assert passed_over("JXL", head + box(b"brob", b"xml packed")) == ({}, True)
    assert passed_over("JXL", head + struct.pack(">I4s", 3, b"xml ")) == ({}, False)
    assert passed_over("PNG", head + box(b"xml ", xmp())) == ({}, False)
