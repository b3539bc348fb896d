"""Rights and credit stay as they came; thumbnails and, on request, location go."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from pictures import iptc, jpeg_with, png_with, saved, xmp
from PIL import Image, TiffImagePlugin

from unlearnable.pipeline.data.images import decode, encode
from unlearnable.pipeline.data.metadata import NOTES, edited, published_metadata
from unlearnable.pipeline.data.xmp import PROHIBITED, Edits

PIXELS = np.full((24, 32, 3), (90, 120, 60), np.uint8)
THUMBNAIL = saved(Image.fromarray(PIXELS[:8, :8]), "JPEG")
COPYRIGHT, ARTIST, MODEL = 0x8298, 0x013B, 0x0110
GPS = {1: "N", 2: (52.0, 31.0, 12.0)}


def exif(*, thumbnail: bool = False, orientation: int = 6, order: str = "<") -> bytes:
    """A TIFF structure with rights, a GPS IFD, an EXIF IFD and, asked for, IFD 1 behind IFD 0."""
    entries: list[tuple[int, int, int, bytes]] = [
        (MODEL, 2, 8, b"Camera1\0"),
        (0x0112, 3, 1, struct.pack(order + "HH", orientation, 0)),
        (ARTIST, 2, 4, b"Ada\0"),
        (COPYRIGHT, 2, 8, b"(c) Ada\0"),
        (0x8769, 4, 1, b"exif"),
        (0x8825, 4, 1, b"gps "),
    ]
    base = 8 + 2 + 12 * len(entries) + 4
    sub = {
        b"exif": [(0x9286, 7, 12, b"UserComment!"), (0x927C, 7, 60, b"maker " + bytes(54))],
        b"gps ": [(1, 2, 2, b"N\0\0\0"), (2, 5, 3, struct.pack(order + "6I", 52, 1, 31, 1, 12, 1))],
    }
    body = b""

    def ifd(rows: list[tuple[int, int, int, bytes]], at: int, following: int) -> bytes:
        """Write an IFD at ``at`` with its values behind it."""
        table, values = struct.pack(order + "H", len(rows)), b""
        place = at + 2 + 12 * len(rows) + 4
        for tag, kind, count, value in rows:
            table += struct.pack(order + "HHI", tag, kind, count)
            if len(value) <= 4:
                table += value.ljust(4, b"\0")
            else:
                table += struct.pack(order + "I", place + len(values))
                values += value + bytes(len(value) % 2)
        return table + struct.pack(order + "I", following) + values

    values_size = sum(len(v) + len(v) % 2 for *_, v in entries if len(v) > 4)
    at = base + values_size
    rows = []
    for tag, kind, count, value in entries:
        if value in sub:
            part = ifd(sub[value], at + len(body), 0)
            rows.append((tag, kind, count, struct.pack(order + "I", at + len(body))))
            body += part + bytes(len(part) % 2)
        else:
            rows.append((tag, kind, count, value))
    following = 0
    if thumbnail:
        following = at + len(body)
        start = following + 2 + 24 + 4
        one = [(0x0201, 4, 1, struct.pack(order + "I", start))]
        one.append((0x0202, 4, 1, struct.pack(order + "I", len(THUMBNAIL))))
        body += ifd(one, following, 0) + THUMBNAIL
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return mark + struct.pack(order + "I", 8) + ifd(rows, 8, following) + body


def tags_of(data: bytes) -> dict[int, object]:
    found = Image.Exif()
    found.load(b"Exif\0\0" + data)
    gps = {0x8825: dict(found.get_ifd(0x8825))} if 0x8825 in found else {}
    return dict(found) | gps | dict(found.get_ifd(0x8769))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("thumbnail", [False, True])
def test_exif_keeps_rights_and_loses_thumbnails(order: str, thumbnail: bool) -> None:
    data = exif(thumbnail=thumbnail, order=order)
    found = decode(jpeg_with(PIXELS, (0xE1, b"Exif\0\0" + data)))
    assert found.pixels.shape == (32, 24, 3)
    kept, notes = edited(found.kept)
    assert ("thumbnail_dropped" in notes) == thumbnail
    assert THUMBNAIL not in kept.exif
    tags = tags_of(kept.exif)
    assert (tags[COPYRIGHT], tags[ARTIST], tags[MODEL]) == ("(c) Ada", "Ada", "Camera1")
    assert tags[0x0112] == 1
    assert tags[0x9286] == b"UserComment!"
    assert tags[0x8825][2] == GPS[2]
    # Maker notes hold places of their own: they stay where they were.
    assert kept.exif.index(b"maker ") == data.index(b"maker ")
    if not thumbnail:
        assert len(kept.exif) == len(data)
    assert edited(kept)[0] == kept


def test_location_and_device_go_on_request() -> None:
    found = decode(jpeg_with(PIXELS, (0xE1, b"Exif\0\0" + exif()))).kept
    kept, notes = edited(found, Edits(drop_location=True))
    tags = tags_of(kept.exif)
    assert "location_dropped" in notes
    assert (tags[COPYRIGHT], tags[ARTIST]) == ("(c) Ada", "Ada")
    assert not {MODEL, 0x8825, 0x927C} & tags.keys()
    assert b"Camera1" not in kept.exif
    assert struct.pack("<6I", 52, 1, 31, 1, 12, 1) not in kept.exif


@pytest.mark.parametrize(
    "data", [b"II*\0\xff\xff\xff\x7f", b"junk", exif()[:60], b"MM\0*" + bytes(9)]
)
def test_damaged_exif_is_dropped_whole(data: bytes) -> None:
    kept, notes = edited(decode(png_with(PIXELS, (b"eXIf", data))).kept)
    assert kept.exif == b""
    assert notes == {"metadata_dropped"}


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_any_damage_of_exif_is_survived() -> None:
    whole = exif(thumbnail=True)
    rng = np.random.default_rng(0)
    for _ in range(400):
        data = bytearray(whole)
        for at in rng.integers(0, len(data), 3):
            data[at] = rng.integers(0, 256)
        kept, _ = edited(decode(png_with(PIXELS, (b"eXIf", bytes(data)))).kept)
        assert len(kept.exif) <= len(whole)


DATA_MINING = 'plus:DataMining="http://ns.useplus.org/ldf/vocab/DMI-ALLOWED"'
PLUS = 'xmlns:plus="http://ns.useplus.org/ldf/xmp/1.0/"'


def test_xmp_without_pictures_stays_byte_for_byte() -> None:
    packet = xmp(DATA_MINING, spaces=PLUS)
    for data in (
        jpeg_with(PIXELS, (0xE1, b"http://ns.adobe.com/xap/1.0/\0" + packet)),
        png_with(PIXELS, (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet)),
        saved(Image.fromarray(PIXELS), "WEBP", xmp=packet),
    ):
        assert edited(decode(data).kept) == (decode(data).kept, set())
        assert decode(data).kept.xmp == packet


CODED = "/9j/" + "A" * 400
SHOWING = {
    "xmp:Thumbnails": (
        "<xmp:Thumbnails><rdf:Alt><rdf:li rdf:parseType='Resource'><g:image>" + CODED
        + "</g:image></rdf:li></rdf:Alt></xmp:Thumbnails>",
        'xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:g="http://ns.adobe.com/xap/1.0/g/img/"',
    ),
    "GImage:Data": (
        f"<G:Data>{CODED}</G:Data>", 'xmlns:G="http://ns.google.com/photos/1.0/image/"',
    ),
    "unknown": (f"<q:any>{CODED}</q:any>", 'xmlns:q="urn:any"'),
}  # fmt: skip


@pytest.mark.parametrize("name", SHOWING)
def test_pictures_in_xmp_are_dropped_and_rights_stay(name: str) -> None:
    more, spaces = SHOWING[name]
    packet = xmp(more=more, spaces=spaces)
    found = decode(png_with(PIXELS, (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet))).kept
    kept, notes = edited(found)
    assert notes == {"thumbnail_dropped"}
    assert b"/9j/" not in kept.xmp
    assert b"(c) Ada" in kept.xmp


def test_orientation_and_gain_map_leave_xmp() -> None:
    packet = xmp(
        'tiff:Orientation="6" hdrgm:Version="1.0"',
        spaces='xmlns:tiff="http://ns.adobe.com/tiff/1.0/" '
        'xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/"',
    )
    data = jpeg_with(PIXELS, (0xE1, b"http://ns.adobe.com/xap/1.0/\0" + packet))
    kept, notes = edited(decode(data).kept)
    assert notes == {"gain_map_dropped"}
    assert b"Orientation=" not in kept.xmp
    assert b"Version=" not in kept.xmp
    assert b"(c) Ada" in kept.xmp


@pytest.mark.parametrize("packet", [b"", xmp(), xmp(DATA_MINING, spaces=PLUS), b"<!ENTITY x>"])
@pytest.mark.parametrize("fmt", ["png", "jpeg", "webp", "avif"])
def test_a_reservation_is_written(packet: bytes, fmt: str) -> None:
    data = png_with(PIXELS, (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet))
    kept, _ = published_metadata(decode(data).kept, fmt, Edits(reserve=True))
    again = decode(encode(PIXELS, fmt, None, kept)).kept.xmp.decode()
    assert again.count(PROHIBITED) == 1
    assert "DMI-ALLOWED" not in again
    assert ("(c) Ada" in again) == (b"(c) Ada" in packet)


@pytest.mark.parametrize(
    ("terms", "written"),
    [
        ("cc-by-nc-4.0", 'rdf:resource="https://creativecommons.org/licenses/by-nc/4.0/"'),
        ("https://a.org/l?x=1&y=2", 'rdf:resource="https://a.org/l?x=1&amp;y=2"'),
        ("Ask <Ada>", '<rdf:li xml:lang="x-default">Ask &lt;Ada&gt;</rdf:li>'),
        ("", None),
    ],
)
def test_a_licence_is_stated_where_there_is_none(terms: str, written: str | None) -> None:
    own = '<cc:license xmlns:cc="http://creativecommons.org/ns#" rdf:resource="urn:own"/>'
    for packet in (b"", xmp(), xmp(more=own)):
        data = png_with(PIXELS, (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet))
        kept, _ = published_metadata(decode(data).kept, "png", Edits(reserve=True, license=terms))
        text = kept.xmp.decode()
        assert PROHIBITED in text
        has_own = b"urn:own" in packet
        assert ("urn:own" in text) == has_own
        assert written is None or (written in text) != has_own, text


def test_several_comments_stay() -> None:
    data = jpeg_with(PIXELS, (0xFE, b"(c) Ada"), (0xFE, b"licence: cc-by"))
    assert decode(data).kept.comment == b"(c) Ada\nlicence: cc-by"


def test_iptc_and_authors_of_a_tiff_stay_whatever_their_type() -> None:
    records = iptc(n80=b"Ada", n110=b"Ada / Agency")[12:]
    records += bytes(-len(records) % 4)
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[40093], tags.tagtype[40093] = "Ada".encode("utf-16-le"), 1
    tags[33723], tags.tagtype[33723] = records, 7
    data = bytearray(saved(Image.fromarray(PIXELS), "TIFF", tiffinfo=tags))
    at = data.index(struct.pack("<HHI", 33723, 7, len(records)))
    struct.pack_into("<HHI", data, at, 33723, 4, len(records) // 4)
    found = decode(bytes(data)).kept
    assert records in found.irb
    assert tags_of(found.exif)[40093] == "Ada".encode("utf-16-le")


@pytest.mark.parametrize("fmt", ["jpeg", "png"])
def test_iptc_stays_and_photoshop_thumbnails_go(fmt: str) -> None:
    credit = iptc(n80=b"Ada", n110=b"Ada / Agency", n90=b"Paris")
    thumbnail = b"8BIM\x04\x0c\0\0" + struct.pack(">I", len(THUMBNAIL)) + THUMBNAIL
    thumbnail += bytes(len(THUMBNAIL) % 2)
    data = jpeg_with(PIXELS, (0xED, b"Photoshop 3.0\0" + thumbnail + credit))
    kept, notes = published_metadata(decode(data).kept, fmt)
    assert notes == {"thumbnail_dropped"}
    assert decode(encode(PIXELS, fmt, None, kept)).kept.irb == credit
    kept, _ = published_metadata(decode(data).kept, fmt, Edits(drop_location=True))
    assert b"Paris" not in kept.irb
    assert b"Ada / Agency" in kept.irb


def test_png_texts_stay_and_coded_pictures_go() -> None:
    texts = ((b"tEXt", b"Copyright\0Ada"), (b"iTXt", b"Author\0\0\0\0\0Ada \xc3\xa9"))
    picture = (b"tEXt", b"Thumb\0" + CODED.encode())
    kept, notes = edited(decode(png_with(PIXELS, *texts, picture)).kept)
    assert kept.chunks == texts
    assert notes == {"thumbnail_dropped"}
    assert published_metadata(kept, "webp") == (kept.__class__(), {"metadata_dropped"})


@pytest.mark.parametrize("fmt", ["JPEG", "WEBP", "AVIF", "TIFF"])
def test_copyright_survives_from_every_format_to_every_format(fmt: str) -> None:
    block = Image.Exif()
    block[COPYRIGHT], block[ARTIST] = "(c) Ada", "Ada"
    found = decode(saved(Image.fromarray(PIXELS), fmt, exif=block))
    for target in ("png", "jpeg", "webp", "avif"):
        kept, _ = published_metadata(found.kept, target)
        tags = tags_of(decode(encode(found.pixels, target, None, kept)).kept.exif)
        assert (tags[COPYRIGHT], tags[ARTIST]) == ("(c) Ada", "Ada"), target


def gain_map() -> bytes:
    packet = xmp(
        'hdrgm:Version="1.0"', spaces='xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/"'
    )
    return jpeg_with(PIXELS, (0xE1, b"http://ns.adobe.com/xap/1.0/\0" + packet)) + THUMBNAIL


@pytest.mark.parametrize(
    ("data", "note"),
    [
        (gain_map(), "gain_map_dropped"),
        (jpeg_with(PIXELS) + THUMBNAIL, "second_picture_dropped"),
        (saved(Image.fromarray(PIXELS), "MPO", save_all=True,
               append_images=[Image.new("RGB", (8, 8))]), "second_picture_dropped"),
        (saved(Image.fromarray(PIXELS), "PNG") + THUMBNAIL, "second_picture_dropped"),
        (saved(Image.fromarray(PIXELS), "WEBP") + THUMBNAIL, "second_picture_dropped"),
        (png_with(PIXELS, (b"caBX", b"jumb")), "credentials_dropped"),
        (png_with(PIXELS, (b"gmAP", b"x")), "gain_map_dropped"),
        (jpeg_with(PIXELS, (0xE2, b"urn:iso:std:iso:ts:21496:-1\0")) + THUMBNAIL,
         "gain_map_dropped"),
        (jpeg_with(PIXELS, (0xEB, b"JP\0\1\0\0\0\1\0\0\0\x08jumb")), "credentials_dropped"),
    ],
)  # fmt: skip
def test_what_shows_the_original_is_noted(data: bytes, note: str) -> None:
    found = decode(data)
    assert found.notes == {note}
    assert note in NOTES


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"quality": 100}, {"optimize": True}]
)
def test_a_plain_jpeg_has_nothing_behind_it(options: dict[str, object]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (60, 70, 3), np.uint8)
    data = saved(Image.fromarray(noise), "JPEG", **options)
    assert decode(data).notes == set()
    assert decode(data + bytes(30)).notes == set()
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "JPEG", restart_marker_rows=1)
    assert decode(buffer.getvalue()).notes == set()


def test_pixels_an_inch_stay_between_jpeg_and_png() -> None:
    jpeg = decode(saved(Image.new("RGB", (8, 8)), "JPEG", dpi=(300, 150)))
    kept, _ = published_metadata(jpeg.kept, "jpeg")
    assert Image.open(io.BytesIO(encode(jpeg.values, "jpeg", None, kept))).info["dpi"] == (300, 150)
    kept, _ = published_metadata(jpeg.kept, "png")
    png = decode(encode(jpeg.values, "png", None, kept))
    assert Image.open(io.BytesIO(encode(jpeg.values, "png", None, kept))).info["dpi"] == (
        pytest.approx((300, 150), abs=0.02)
    )
    kept, _ = published_metadata(png.kept, "jpeg")
    assert kept.density == jpeg.kept.density
    assert "metadata_dropped" in published_metadata(jpeg.kept, "webp")[1]


@pytest.mark.parametrize("density", [b"\0\0\1\0\1", b"\1\0\0\0\0", b""])
def test_a_jpeg_that_states_no_density_gets_none(density: bytes) -> None:
    plain = saved(Image.new("RGB", (8, 8)), "JPEG")
    stated = plain[:13] + density + plain[13 + len(density) :]
    assert decode(stated).kept.density == b""
