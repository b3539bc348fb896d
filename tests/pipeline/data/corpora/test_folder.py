from __future__ import annotations

import json
import os
import unicodedata
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset

from unlearnable.pipeline.data.captions import read_captions
from unlearnable.pipeline.data.corpora.folder import build_folder
from unlearnable.pipeline.data.plan import resolve_input
from unlearnable.pipeline.data.shards import Sample, open_shard
from unlearnable.pipeline.errors import UsageError


@pytest.fixture
def src(tmp_path: Path) -> Path:
    for name in ("a.png", "sub/b.JPG", "sub/b.v2.jpg", "c d.webp", "alone.png"):
        path = tmp_path / "src" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path / "src"


def read(out: Path) -> list[Sample]:
    samples = []
    for shard in resolve_input(str(out)):
        with open_shard(shard.url) as reader:
            samples += list(reader)
    return samples


def build(src: Path, **options: Any) -> list[tuple[str, list[str]]]:
    out = src.parent / "out"
    build_folder(str(src), str(out), **options)
    return [(sample.key, read_captions(sample)) for sample in read(out)]


def test_csv(src: Path) -> None:
    (src / "captions.csv").write_text('file,caption\nsub/b.JPG,"a cat, red"\na.png, a dog \n')
    report = build_folder(str(src), str(src.parent / "out"))
    first, second = read(src.parent / "out")
    assert [(m.name, m.data) for m in first.members] == [
        ("sub/b.jpg", b"sub/b.JPG"),
        ("sub/b.txt", b"a cat, red"),
    ]
    assert [(m.name, m.data) for m in second.members] == [("a.png", b"a.png"), ("a.txt", b"a dog")]
    assert report.samples == 2
    assert report.uncaptioned == ["alone.png", "c d.webp", "sub/b.v2.jpg"]
    assert os.listdir(src.parent / "out") == ["train-000.tar"]
    assert report.listed is not None
    listed = Path(report.listed).read_text().splitlines()
    assert listed == [f"images have no caption: {name}" for name in report.uncaptioned]


def test_jsonl_with_several_captions(src: Path) -> None:
    rows = [{"image": "a.png", "captions": ["x", "y"]}, {"image": "c d.webp", "text": "é"}]
    (src / "captions.jsonl").write_text("\n\n".join(map(json.dumps, rows)))
    assert build(src) == [("a", ["x", "y"]), ("c_d", ["é"])]


def test_parquet_and_tsv_outside_the_folder(src: Path) -> None:
    table = pa.table({"file_name": ["a.png"], "captions": [["x", "y"]], "other": [1]})
    pq.write_table(table, src.parent / "t.parquet")
    assert build(src, captions=str(src.parent / "t.parquet")) == [("a", ["x", "y"])]
    (src.parent / "out/train-000.tar").unlink()
    (src.parent / "t.tsv").write_text("filename\tcaption\na.png\tone, two\n")
    assert build(src, captions=str(src.parent / "t.tsv")) == [("a", ["one, two"])]


@pytest.mark.parametrize("delimiter", [";", "\t", "|", ","])
def test_the_delimiter_is_found_in_the_header(src: Path, delimiter: str) -> None:
    rows = [("file", "caption"), ("a.png", "a dog"), ("sub/b.JPG", "a cat")]
    (src / "captions.csv").write_text("".join(delimiter.join(row) + "\n" for row in rows))
    assert build(src) == [("a", ["a dog"]), ("sub/b", ["a cat"])]


@pytest.mark.parametrize(("on_disk", "in_table"), [("NFD", "NFC"), ("NFC", "NFD")])
def test_names_match_in_every_unicode_form(src: Path, on_disk: Any, in_table: Any) -> None:
    (src / unicodedata.normalize(on_disk, "café.png")).write_bytes(b"x")
    row = unicodedata.normalize(in_table, "café.png")
    (src / "captions.csv").write_text(f"file,caption\n{row},coffee\n")
    assert [captions for _, captions in build(src)] == [["coffee"]]


def test_an_exact_name_comes_before_an_equal_one(src: Path) -> None:
    for form in ("NFC", "NFD"):
        (src / unicodedata.normalize(form, "é.png")).write_bytes(form.encode())
    row = unicodedata.normalize("NFD", "é.png")
    (src / "captions.csv").write_text(f"file,caption\n{row},x\n")
    build_folder(str(src), str(src.parent / "out"))
    assert read(src.parent / "out")[0].members[0].data == b"NFD"


def test_rows_without_caption_are_left_out_and_listed(src: Path) -> None:
    (src / "captions.csv").write_text("file,caption\na.png,x\nsub/b.JPG, \nnone.png,y\n")
    report = build_folder(str(src), str(src.parent / "out"))
    table = src / "captions.csv"
    assert (report.rows, report.samples) == (3, 1)
    assert report.empty == [f"{table} line 3: sub/b.JPG"]
    assert report.lost == pytest.approx(2 / 3)
    assert report.listed is not None
    text = Path(report.listed).read_text()
    assert f"rows have no caption: {table} line 3: sub/b.JPG" in text
    assert f"rows name an image that does not exist: {table} line 4: none.png" in text


def test_webdataset_reads_several_captions_by_its_documented_lines(src: Path) -> None:
    (src / "captions.csv").write_text("file,caption\na.png,x\na.png,y\nalone.png,z\n")
    build_folder(str(src), str(src.parent / "out"))
    dataset = webdataset.WebDataset(str(src.parent / "out/train-000.tar"), shardshuffle=False)
    rows = list(dataset.to_tuple("__key__", "txt", "json"))
    assert [(key, text) for key, text, _ in rows] == [("a", b"x"), ("alone", b"z")]
    assert [json.loads(data)["captions"] for _, _, data in rows] == [["x", "y"], ["z"]]


def test_keys_are_unique_and_plain(src: Path) -> None:
    (src / "c_d.png").write_bytes(b"")
    files = ["c d.webp", "c_d.png", "sub/b.JPG", "sub/b.v2.jpg"]
    (src / "captions.csv").write_text("file,text\n" + "".join(f"{file},x\n" for file in files))
    assert [key for key, _ in build(src)] == ["c_d", "c_d_2", "sub/b", "sub/b_v2"]


def test_shards_of_a_size(src: Path) -> None:
    (src / "captions.csv").write_text("file,text\na.png,x\nsub/b.JPG,y\nalone.png,z\n")
    build_folder(str(src), str(src.parent / "out"), samples_per_shard=2)
    assert sorted(os.listdir(src.parent / "out")) == ["train-000.tar", "train-001.tar"]
    assert [sample.key for sample in read(src.parent / "out")] == ["a", "sub/b", "alone"]


def test_rows_of_one_image_are_gathered_and_oddities_reported(src: Path) -> None:
    text = "file,caption\na.png,x\nnone.png,y\na.png,z\na.png,x\n./a.png,w\n"
    (src / "captions.csv").write_text(text)
    report = build_folder(str(src), str(src.parent / "out"))
    table = src / "captions.csv"
    assert report.missing == [f"{table} line 3: none.png"]
    assert report.duplicates == [f"{table} line 5: a.png"]
    assert read_captions(read(src.parent / "out")[0]) == ["x", "z", "w"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,caption\na.png\n", r"captions\.csv line 2: no value in a column caption"),
        (
            "name,caption\na.png,x\n",
            r"in a column file.*; the columns are name, caption: rename one",
        ),
        ("file,caption\na.png,x, y\n", r"captions\.csv line 2: more values than columns"),
        ('file,caption\na.png,"x" y\n', r"captions\.csv line 2: "),
        ("file,caption\n../a.png,x\n", r"captions\.csv line 2: .*leaves the image folder"),
        ("file,caption\n/a.png,x\n", r"captions\.csv line 2: .*leaves the image folder"),
        ("file,caption\na.pdf,x\n", r"captions\.csv line 2: .*is no image"),
        ("file,caption\nnone.png,x\n", r"captions\.csv names no image that exists"),
        ("", r"captions\.csv names no image that exists"),
        ("file,caption\na.png,caf\udce9\n", r"captions\.csv line 2: not UTF-8"),
    ],
)
def test_bad_csv(src: Path, text: str, message: str) -> None:
    (src / "captions.csv").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UsageError, match=message):
        build(src)
    assert sorted(os.listdir(src.parent)) == ["src"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: not JSON"),
        ("[1]", "line 2: each line must be a JSON object"),
        ('{"file": "a.png", "caption": 3}', "line 2: the caption must be a text"),
        ('{"file": 3, "caption": "x"}', "line 2: the image file must be a text"),
        (r'{"file": "a.png", "caption": "\ud83d"}', "line 2: the caption is not a text"),
    ],
)
def test_bad_jsonl(src: Path, line: str, message: str) -> None:
    (src / "captions.jsonl").write_text('{"file": "a.png", "caption": "x"}\n' + line)
    with pytest.raises(UsageError, match=rf"captions\.jsonl {message}"):
        build(src)


def test_bad_tables_and_folders(src: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    with pytest.raises(UsageError, match=r"must hold one captions\.csv.*found: none"):
        build_folder(str(src), out)
    (src / "captions.csv").write_text("file,caption\na.png,x\n")
    (src / "captions.parquet").write_bytes(b"nonsense")
    with pytest.raises(UsageError, match=r"found: captions\.csv, captions\.parquet"):
        build_folder(str(src), out)
    table = pa.table({"file": ["a.png"] * 99, "caption": list(map(str, range(99)))})
    pq.write_table(table, src / "captions.parquet", use_dictionary=False)
    whole = (src / "captions.parquet").read_bytes()
    for damaged in (b"nonsense", whole[:30] + bytes(200) + whole[230:]):
        (src / "captions.parquet").write_bytes(damaged)
        with pytest.raises(UsageError, match="not a readable Parquet file"):
            build_folder(str(src), out, captions=str(src / "captions.parquet"))
    with pytest.raises(UsageError, match=r"captions must be \.csv"):
        build_folder(str(src), out, captions=str(src / "a.png"))
    with pytest.raises(UsageError, match="does not exist"):
        build_folder(str(src), out, captions=str(src / "none.csv"))
    with pytest.raises(UsageError, match="not a folder on this machine; give"):
        build_folder(str(tmp_path / "none"), out)
    with pytest.raises(UsageError, match="not a folder on this machine; unpack it"):
        build_folder(str(src / "a.png"), out)
    with pytest.raises(UsageError, match="at least 1"):
        build_folder(str(src), out, captions=str(src / "captions.csv"), samples_per_shard=0)
    with pytest.raises(UsageError, match="is inside"):
        build_folder(str(src), str(src / "out"))
    assert os.listdir(tmp_path) == ["src"]
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x").write_bytes(b"")
    with pytest.raises(UsageError, match="not an empty folder"):
        build_folder(str(src), out, captions=str(src / "captions.csv"))


def test_a_failure_half_way_leaves_nothing(src: Path, tmp_path: Path) -> None:
    (src / "captions.csv").write_text("file,caption\na.png,x\nsub/b.JPG,y\n")
    (src / "sub/b.JPG").unlink()
    (src / "sub/b.JPG").symlink_to("/proc/self/mem")
    with pytest.raises(UsageError, match=r"cannot read the image .*b\.JPG"):
        build_folder(str(src), str(tmp_path / "out"), samples_per_shard=1)
    assert os.listdir(tmp_path) == ["src"]


def test_equal_input_gives_equal_bytes(src: Path, tmp_path: Path) -> None:
    (src / "captions.csv").write_text("file,caption\na.png,x\nsub/b.JPG,y\n")
    build_folder(str(src), str(tmp_path / "one"))
    os.utime(src / "a.png", (1, 1))
    build_folder(str(src), str(tmp_path / "two"))
    one, two = ((tmp_path / name / "train-000.tar").read_bytes() for name in ("one", "two"))
    assert one == two
