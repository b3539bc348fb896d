from __future__ import annotations

import hashlib
import io
import math
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import fields, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from manifests import write_manifest

from unlearnable.pipeline.data.manifest import (
    COLUMNS,
    ROW_GROUP,
    SCHEMA,
    ManifestRow,
    ManifestWriter,
    manifest_url,
    open_manifest,
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


def encoded(rows: Iterable[ManifestRow], metadata: dict[str, str] = METADATA) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        write_manifest(f"{folder}/a", rows, metadata)
        return Path(f"{folder}/a").read_bytes()


def numbered(count: int) -> Iterator[ManifestRow]:
    return (replace(FULL, key=f"k{row}", row=row) for row in range(count))


def test_round_trip(tmp_path: Path) -> None:
    url = manifest_url(str(tmp_path), "train-000")
    assert url == f"{tmp_path}/manifest/train-000.parquet"
    Path(url).parent.mkdir()
    found = write_manifest(url, [FULL, EMPTY], METADATA)
    data = Path(url).read_bytes()
    assert found == (hashlib.sha256(data).hexdigest(), len(data))
    rows, metadata = read_manifest(url)
    assert rows == [FULL, EMPTY]
    assert metadata == {**METADATA, "manifest_version": "1"}
    with open_manifest(url) as manifest:
        assert (manifest.sha256, manifest.size) == found


def test_equal_rows_give_equal_bytes() -> None:
    backwards = dict(reversed(METADATA.items()))
    assert encoded([FULL, EMPTY], METADATA) == encoded([FULL, EMPTY], backwards)
    assert encoded([FULL], METADATA) != encoded([EMPTY], METADATA)


@pytest.mark.parametrize("count", [0, 1, ROW_GROUP - 1, ROW_GROUP, ROW_GROUP + 1, 3 * ROW_GROUP])
def test_rows_are_written_and_read_in_groups(tmp_path: Path, count: int) -> None:
    url = str(tmp_path / "a.parquet")
    write_manifest(url, numbered(count), METADATA)
    assert pq.ParquetFile(url).num_row_groups == -(-count // ROW_GROUP)
    rows, metadata = read_manifest(url)
    assert rows == list(numbered(count))
    assert metadata["shard"] == "train-000"


def test_a_group_is_on_disk_before_the_next_row_comes(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    with ManifestWriter(path, METADATA) as writer:
        for row in numbered(20 * ROW_GROUP):
            # A group is several times the size of the file's buffer.
            assert row.row < 2 * ROW_GROUP or path.stat().st_size > 1000 * (row.row // ROW_GROUP)
            writer.write(row)


def test_rows_before_a_damage_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write_manifest(path, numbered(3 * ROW_GROUP), METADATA)
    start = pq.ParquetFile(path).metadata.row_group(1).column(0).dictionary_page_offset
    with path.open("r+b") as file:
        file.seek(start)
        file.write(bytes(64))
    seen: list[ManifestRow] = []
    with open_manifest(str(path)) as manifest:
        rows = iter(manifest)
        with pytest.raises(ViolationError, match="not a readable"):
            seen.extend(rows)
    assert seen == list(numbered(ROW_GROUP))


def test_a_failed_write_leaves_no_file(tmp_path: Path) -> None:
    def broken() -> Iterator[ManifestRow]:
        yield FULL
        raise KeyError

    with pytest.raises(KeyError):
        write_manifest(tmp_path / "a.parquet", broken(), METADATA)
    assert not (tmp_path / "a.parquet").exists()


_ON_A_SMALL_FILE = """
import resource, signal, sys
from unlearnable.pipeline.data.manifest import ROW_GROUP, ManifestRow, ManifestWriter
from unlearnable.pipeline.errors import UsageError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
rows = (ManifestRow(f"key {row}", "train-000", row, "protected") for row in range(8 * ROW_GROUP))
try:
    with ManifestWriter(sys.argv[1], {}) as writer:
        for row in rows:
            writer.write(row)
except UsageError as error:
    print(error)
"""


@pytest.mark.parametrize("limit", [1, 20_000])
def test_a_write_that_finds_no_room_says_so(tmp_path: Path, limit: int) -> None:
    """At once, and in the middle: what Arrow would raise has no error number to tell by."""
    path = tmp_path / "a.parquet"
    line = [sys.executable, "-c", _ON_A_SMALL_FILE, str(path), str(limit)]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    assert f"cannot write {path}: the file is larger" in done.stdout
    assert done.stderr == ""
    assert not path.exists()


def test_row_schema_and_descriptions_name_the_same_columns() -> None:
    names = [field.name for field in fields(ManifestRow)]
    assert names == SCHEMA.names == [column.name for column in COLUMNS]


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
        (encoded([FULL])[:-9], "not a readable manifest"),
        (other_version(), "has manifest version None"),
        (other_columns(), "does not have the columns"),
    ],
)
def test_bad_manifests(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "a.parquet").write_bytes(data)
    with pytest.raises(ViolationError, match=rf"a\.parquet.*{message}"):
        read_manifest(str(tmp_path / "a.parquet"))
