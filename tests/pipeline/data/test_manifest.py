from __future__ import annotations

import io
import math
from dataclasses import fields
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from unlearnable.pipeline.data import storage
from unlearnable.pipeline.data.manifest import (
    COLUMN_DESCRIPTIONS,
    SCHEMA,
    ManifestRow,
    encode_manifest,
    manifest_url,
    read_manifest,
)
from unlearnable.pipeline.errors import ViolationError

FULL = ManifestRow(
    key="é/1", shard="train-000", row=0, status="protected", reason=None, input_sha256="a" * 64,
    output_sha256="b" * 64, width=64, height=32, format="jpeg", source_ext="jpg", image_ext="png",
    trigger_tokens=[49405, 0, 7], trigger_text="red cat river", epsilon=8, linf=8, l2=123.4,
    psnr=math.inf, ssim=0.99, batch=3, batch_seed=2**63 - 1, shuffle_seeds=[2**64 - 1, 0],
    loss_before=1.5, loss_after=0.1, surrogate_sha256="c" * 64,
)  # fmt: skip
EMPTY = ManifestRow(key="k", shard="train-000", row=1, status="quarantined", reason="empty_caption")
METADATA = {"shard": "train-000", "version": "1.2.3", "config": '{"epsilon": 8}'}


def test_round_trip(tmp_path: Path) -> None:
    url = manifest_url(str(tmp_path), "train-000")
    assert url == f"{tmp_path}/manifest/train-000.parquet"
    storage.write_bytes(url, encode_manifest([FULL, EMPTY], METADATA))
    rows, metadata = read_manifest(url)
    assert rows == [FULL, EMPTY]
    assert metadata == {**METADATA, "manifest_version": "1"}


def test_equal_rows_give_equal_bytes() -> None:
    backwards = dict(reversed(METADATA.items()))
    assert encode_manifest([FULL, EMPTY], METADATA) == encode_manifest([FULL, EMPTY], backwards)
    assert encode_manifest([FULL], METADATA) != encode_manifest([EMPTY], METADATA)


def test_no_rows(tmp_path: Path) -> None:
    storage.write_bytes(str(tmp_path / "a"), encode_manifest([], METADATA))
    assert read_manifest(str(tmp_path / "a"))[0] == []


def test_row_schema_and_descriptions_name_the_same_columns() -> None:
    names = [field.name for field in fields(ManifestRow)]
    assert names == SCHEMA.names == list(COLUMN_DESCRIPTIONS)


def other_columns() -> bytes:
    buffer = io.BytesIO()
    schema = pa.schema([("key", pa.string())], metadata={"manifest_version": "1"})
    pq.write_table(pa.Table.from_pylist([{"key": "a"}], schema=schema), buffer)
    return buffer.getvalue()


def other_version() -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([], schema=SCHEMA), buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a readable manifest"),
        (b"PAR1 nonsense PAR1", "not a readable manifest"),
        (encode_manifest([FULL], METADATA)[:-9], "not a readable manifest"),
        (other_version(), "has manifest version None"),
        (other_columns(), "does not have the columns"),
    ],
)
def test_bad_manifests(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "a.parquet").write_bytes(data)
    with pytest.raises(ViolationError, match=rf"a\.parquet.*{message}"):
        read_manifest(str(tmp_path / "a.parquet"))
