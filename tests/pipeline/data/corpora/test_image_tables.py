"""Tables that `datasets` wrote become shards, and shards such tables again."""

from __future__ import annotations

import io
import json
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from unlearnable.jobs.cli import main
from unlearnable.pipeline.data import storage
from unlearnable.pipeline.data.corpora.image_tables import Columns, build_tables, export_tables
from unlearnable.pipeline.data.shards import Sample, open_shard
from unlearnable.pipeline.errors import UsageError
from unlearnable.pipeline.execution.config import ProtectConfig
from unlearnable.pipeline.execution.protect import protect

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def picture(number: int, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((20, 30, 3), 9 * number, np.uint8)).save(file, kind)
    return file.getvalue()


def rows(count: int = 5) -> list[dict[str, Any]]:
    return [
        {
            "image": {"bytes": picture(number, "JPEG"), "path": f"walls/{number}.jpg"},
            "caption": [f"a grey wall {number}", f"wall number {number}"],
            "id": number,
            "boxes": [[0.5, 1.0]],
        }
        for number in range(count)
    ]


SCHEMA = pa.schema(
    [
        ("image", IMAGE),
        ("caption", pa.list_(pa.string())),
        ("id", pa.int32()),
        ("boxes", pa.list_(pa.list_(pa.float32()))),
    ]
)


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    """Two splits below a folder, as the Hub has them."""
    folder = tmp_path / "tables"
    (folder / "data").mkdir(parents=True)
    found = rows()
    for name, part in (
        ("train-00000-of-00002", found[:2]),
        ("train-00001-of-00002", found[2:4]),
        ("test-00000-of-00001", found[4:]),
    ):
        table = pa.Table.from_pylist(part, schema=SCHEMA.with_metadata({"kept": "as it is"}))
        pq.write_table(table, folder / "data" / f"{name}.parquet")
    return folder


def samples(shard: Path) -> list[Sample]:
    with open_shard(str(shard)) as reader:
        return list(reader)


def test_tables_become_shards_by_split(tables: Path, tmp_path: Path) -> None:
    report = build_tables(str(tables), str(tmp_path / "shards"), Columns(), 3)
    assert (report.counts, report.rows, report.left_out) == ({"test": 1, "train": 4}, 5, [])
    names = sorted(path.name for path in (tmp_path / "shards").iterdir())
    assert names == ["test-000.tar", "train-000.tar", "train-001.tar"]
    found = samples(tmp_path / "shards" / "train-001.tar")
    assert [sample.key for sample in found] == ["00000003"]
    members = {member.ext: member.data for member in found[0].members}
    assert members["jpg"] == picture(3, "JPEG")
    assert members["txt"] == b"a grey wall 3"
    assert json.loads(members["json"]) == {
        "id": 3,
        "boxes": [[0.5, 1.0]],
        "image": "walls/3.jpg",
        "captions": ["a grey wall 3", "wall number 3"],
    }


def test_shards_become_the_same_tables_again(tables: Path, tmp_path: Path) -> None:
    build_tables(str(tables), str(tmp_path / "shards"), Columns())
    url = f"memory://tables-{tmp_path.name}"
    assert export_tables(str(tmp_path / "shards"), url, str(tables), Columns()) == 5
    assert storage.list_names(url) == ["test-000.parquet", "train-000.parquet"]
    again = pq.read_table(io.BytesIO(storage.read_bytes(f"{url}/train-000.parquet")))
    assert again.schema.equals(SCHEMA)
    assert again.schema.metadata == {b"kept": b"as it is"}
    assert again.to_pylist() == rows()[:4]


def test_a_protected_copy_goes_back_to_datasets(tmp_path: Path) -> None:
    """Made by `datasets`, protected here, read by `datasets` with its features."""
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "text": datasets.Value("string")})
    made = [
        {"image": {"bytes": picture(number), "path": f"{number}.png"}, "text": f"wall {number}"}
        for number in range(8)
    ]
    source = tmp_path / "train.parquet"
    datasets.Dataset.from_list(made, features=features).to_parquet(source)
    shards, copy, back = tmp_path / "shards", tmp_path / "copy", tmp_path / "back"
    line = ["data", "parquet", str(source), str(shards), "--caption-column", "text"]
    assert main(line) == 0
    config = ProtectConfig(
        str(shards), str(copy), method="random", executor="local", image_format="webp"
    )
    assert protect(config).exit_code == 0
    more = ["--like", str(source), "--caption-column", "text"]
    assert main(["data", "export", str(copy), str(back), *more]) == 0
    found = datasets.Dataset.from_parquet(str(back / "train-000.parquet"), cache_dir=str(tmp_path))
    assert found.features == features
    assert found["text"] == [row["text"] for row in made]
    assert found[3]["image"].size == (30, 20)
    image = pq.read_table(back / "train-000.parquet")["image"][3].as_py()
    assert image["path"] == "3.webp"
    assert image["bytes"][8:12] == b"WEBP"
    assert 1 <= np.abs(np.asarray(found[3]["image"], int) - 27).max() <= 8


@pytest.mark.parametrize(
    ("columns", "kind", "value", "message"),
    [
        (Columns(image="img"), pa.int32(), 1, "has no column 'img'; it has image, caption, more"),
        (Columns(caption="text"), pa.int32(), 1, "name one by --caption-column"),
        (Columns(image="more"), pa.int32(), 1, "holds no image bytes"),
        (Columns(), pa.date32(), date(2026, 1, 1), "leave it out with --drop more"),
        (Columns(), pa.float64(), float("nan"), "row 1: JSON cannot hold a number"),
    ],
)
def test_columns_that_do_not_fit(
    tmp_path: Path, columns: Columns, kind: pa.DataType, value: object, message: str
) -> None:
    one = {"image": rows()[0]["image"], "caption": "a wall", "more": value}
    schema = pa.schema([("image", IMAGE), ("caption", pa.string()), ("more", kind)])
    table = tmp_path / "t.parquet"
    pq.write_table(pa.Table.from_pylist([one], schema=schema), table)
    with pytest.raises(UsageError, match=message):
        build_tables(str(table), str(tmp_path / "shards"), columns)
    dropped = Columns(drop=("more",))
    assert build_tables(str(table), str(tmp_path / "shards"), dropped).counts == {"train": 1}


def test_rows_without_image_or_caption_are_left_out_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = rows(3)
    found[0]["image"] = None
    found[1]["caption"] = []
    table = tmp_path / "t.parquet"
    pq.write_table(pa.Table.from_pylist(found, schema=SCHEMA), table)
    assert main(["data", "parquet", str(table), str(tmp_path / "shards")]) == 3
    assert "2 of 3 rows left out" in capsys.readouterr().out
    assert [s.key for s in samples(tmp_path / "shards" / "train-000.tar")] == ["00000002"]


def test_a_damaged_table_and_none(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(UsageError, match=r"t\.parquet is not a readable Parquet file"):
        build_tables(str(tmp_path / "t.parquet"), str(tmp_path / "shards"), Columns())
    with pytest.raises(UsageError, match=r"names no \.parquet file"):
        build_tables(str(tmp_path / "none"), str(tmp_path / "shards"), Columns())
