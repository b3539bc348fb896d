"""What a crawler left beside its shards stays true to the protected copy."""

from __future__ import annotations

import json
import shutil
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from runs import copy_both, kept

from unlearnable.pipeline.data.captions import read_captions
from unlearnable.pipeline.data.images import image_member
from unlearnable.pipeline.data.manifest import manifest_url, read_manifest
from unlearnable.pipeline.data.shards import Member, Sample, open_shard, write_shard
from unlearnable.pipeline.data.sidecars import publish_sidecars
from unlearnable.pipeline.errors import ShardError
from unlearnable.pipeline.execution.config import ProtectConfig
from unlearnable.pipeline.execution.protect import protect
from unlearnable.pipeline.verify.config import VerifyConfig
from unlearnable.pipeline.verify.verify import verify

COLUMNS = {
    "url": pa.string(), "caption": pa.string(), "key": pa.string(), "status": pa.string(),
    "error_message": pa.string(), "width": pa.int32(), "height": pa.int32(),
    "original_width": pa.int32(), "original_height": pa.int32(), "exif": pa.string(),
    "sha256": pa.string(),
}  # fmt: skip


def crawled(corpus: Path, folder: Path) -> Path:
    """A shard as img2dataset leaves it: ten samples, one with a broken image, and a failure."""
    folder.mkdir()
    samples, rows = [], []
    with open_shard(str(corpus / "shard-000.tar")) as reader:
        originals = [sample for sample in reader if sample.row < 10]
    for row, sample in enumerate(originals):
        key = f"{row:09d}"
        caption = read_captions(sample)[0]
        note = {
            "url": f"https://example.org/{key}.png", "caption": caption, "key": key,
            "status": "success", "error_message": None, "width": 48, "height": 48,
            "original_width": 640, "original_height": 480, "exif": "{}", "sha256": f"{row:064x}",
        }  # fmt: skip
        image = image_member(sample).data if row != 3 else b"broken"
        members = (
            Member(f"{key}.png", "png", image),
            Member(f"{key}.txt", "txt", caption.encode()),
            Member(f"{key}.json", "json", json.dumps(note).encode()),
        )
        samples.append(Sample(key, members, row))
        rows.append(note)
    failed = dict.fromkeys(COLUMNS) | {
        "url": "https://example.org/gone.png", "caption": "gone", "key": "000000010",
        "status": "failed_to_download", "error_message": "404",
    }  # fmt: skip
    write_shard(folder / "00000.tar", samples)
    schema = pa.schema(list(COLUMNS.items()))
    pq.write_table(pa.Table.from_pylist([*rows, failed], schema), folder / "00000.parquet")
    stats = {"count": 11, "successes": 10, "failed_to_download": 1, "status_dict": {"success": 10}}
    (folder / "00000_stats.json").write_text(json.dumps(stats))
    return folder


@pytest.fixture(scope="module")
def crawl(
    corpus: Path, surrogate: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """What a crawler left, and its protected copy."""
    folder = tmp_path_factory.mktemp("sidecars")
    source, output = crawled(corpus, folder / "crawl"), folder / "copy"
    config = ProtectConfig(
        str(source), str(output), surrogate=surrogate, device="cpu", executor="local",
        max_quarantined=1,
    )  # fmt: skip
    assert protect(config).exit_code == 0
    return source, output


def test_table_and_counts_describe_what_is_published(crawl: tuple[Path, Path]) -> None:
    source, output = crawl
    manifest = {row.key: row for row in read_manifest(manifest_url(str(kept(output)), "00000"))[0]}
    with open_shard(str(output / "00000.tar")) as reader:
        published = {sample.key: sample for sample in reader}
    before = pq.read_table(source / "00000.parquet").to_pylist()
    table = pq.read_table(output / "00000.parquet")
    assert table.column_names == [*COLUMNS]
    assert [table.schema.field(name).type for name in COLUMNS] == list(COLUMNS.values())
    for old, new in zip(before, table.to_pylist(), strict=True):
        for name in ("url", "key", "original_width", "original_height", "exif"):
            assert new[name] == old[name]
        if new["key"] in published:
            sample, row = published[new["key"]], manifest[new["key"]]
            assert new["sha256"] == row.output_sha256 != row.input_sha256
            assert (new["width"], new["height"]) == (row.width, row.height)
            assert [new["caption"]] == read_captions(sample)
            assert new["caption"] == f"{row.trigger_text} {old['caption']}"
            assert new["status"] == "success"
        elif new["key"] == "000000003":
            assert (new["sha256"], new["caption"]) == (None, old["caption"])
            assert (new["status"], new["error_message"]) == ("quarantined", "image_undecodable")
        else:
            assert new == old
    stats = json.loads((output / "00000_stats.json").read_text())
    assert (stats["successes"], stats["source_successes"], stats["quarantined"]) == (9, 10, 1)
    assert stats["status_dict"] == {"success": 9, "quarantined": 1}
    assert verify(VerifyConfig(str(output), against=str(source))).exit_code == 0


def test_no_hash_of_what_was_crawled_is_in_a_copy_or_in_a_copy_of_it(
    crawl: tuple[Path, Path], tmp_path: Path
) -> None:
    source, once = crawl
    twice = tmp_path / "twice"
    config = ProtectConfig(str(once), str(twice), method="random", executor="local", again=True)
    assert protect(config).exit_code == 0
    assert verify(VerifyConfig(str(twice), against=str(once))).exit_code == 0
    crawled_hashes = set(pq.read_table(source / "00000.parquet")["sha256"].to_pylist()) - {None}
    for folder in (once, twice):
        table = pq.read_table(folder / "00000.parquet")
        found = {value for column in table.columns for value in column.to_pylist()}
        assert not found & crawled_hashes


def test_other_hashes_of_what_was_crawled_are_left_out(shard: Path, tmp_path: Path) -> None:
    rows = [{"key": "000000000", "md5": "a", "sha512": "b", "source_sha256": "c", "url": "d"}]
    pq.write_table(pa.Table.from_pylist(rows), shard.with_suffix(".parquet"))
    manifest = kept(tmp_path / "first") / "manifest" / "00000.parquet"
    publish_sidecars(str(shard), str(tmp_path / "out"), "00000", manifest, ())
    assert pq.read_table(tmp_path / "out" / "00000.parquet").column_names == ["key", "url"]


def test_pictures_in_a_table_are_left_out_and_repeats_get_the_trigger(
    shard: Path, tmp_path: Path
) -> None:
    with open_shard(str(shard)) as reader:
        picture = image_member(next(iter(reader))).data
    row = {
        "key": "000000000", "caption": "a red dog", "alt": "A red  dog", "more": "not a red dog",
        "jpg": picture, "image": {"bytes": picture}, "parts": [picture], "raw": b"words",
        "thumb": "data:image/png;base64," + b64encode(picture).decode(),
    }  # fmt: skip
    pq.write_table(pa.Table.from_pylist([row]), shard.with_suffix(".parquet"))
    facts = dict.fromkeys(("reason", "output_sha256")) | {"key": row["key"], "status": "protected"}
    manifest = tmp_path / "manifest.parquet"
    made = [facts | {"width": 1, "height": 1, "trigger_text": "delta sierra"}]
    pq.write_table(pa.Table.from_pylist(made), manifest)
    publish_sidecars(str(shard), str(tmp_path / "out"), "00000", manifest, ("caption",))
    (found,) = pq.read_table(tmp_path / "out" / "00000.parquet").to_pylist()
    assert found == {
        "key": row["key"], "caption": "delta sierra a red dog", "alt": "delta sierra A red  dog",
        "more": "not a red dog", "raw": b"words",
    }  # fmt: skip


def test_a_folder_beside_a_shard_is_no_table_of_a_crawler(corpus: Path, tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    shutil.copy(corpus / "shard-000.tar", source)
    (source / "shard-000.parquet").mkdir()
    config = ProtectConfig(str(source), str(tmp_path / "out"), method="random", executor="local")
    assert protect(config).exit_code == 0


def in_table(key: int, **values: object) -> Callable[[Path], None]:
    """Return what changes one row of a copy's table."""

    def change(copy: Path) -> None:
        table = pq.read_table(copy / "00000.parquet")
        rows = table.to_pylist()
        rows[key] |= values
        pq.write_table(pa.Table.from_pylist(rows, table.schema), copy / "00000.parquet")

    return change


def in_counts(**values: object) -> Callable[[Path], None]:
    def change(copy: Path) -> None:
        path = copy / "00000_stats.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return change


def shorten_table(copy: Path) -> None:
    table = pq.read_table(copy / "00000.parquet")
    pq.write_table(table.slice(1), copy / "00000.parquet")


DAMAGES: dict[str, tuple[Callable[[Path], None], str, str]] = {
    # what is done, what verify finds without the originals, what with them
    "hash": (in_table(1, sha256="0" * 64), "sidecar_mismatch", "sidecar_mismatch"),
    "width": (in_table(2, width=47), "sidecar_mismatch", "sidecar_mismatch"),
    "caption": (in_table(4, caption="no trigger"), "sidecar_mismatch", "sidecar_mismatch"),
    "quarantined": (in_table(3, sha256="0" * 64), "sidecar_mismatch", "sidecar_mismatch"),
    "reason": (in_table(3, error_message=None), "sidecar_mismatch", "sidecar_mismatch"),
    "counts": (in_counts(successes=10), "sidecar_mismatch", "sidecar_mismatch"),
    "unreadable": (
        lambda copy: (copy / "00000.parquet").write_bytes(b"PAR1"),
        "sidecar_mismatch",
        "sidecar_mismatch",
    ),
    # Only the input tells these.
    "address": (in_table(10, url="https://example.org/other.png"), "", "sidecar_mismatch"),
    "old counts": (in_counts(failed_to_download=0), "", "sidecar_mismatch"),
    "a row less": (shorten_table, "", "sidecar_mismatch"),
    "no table": (lambda copy: (copy / "00000.parquet").unlink(), "", "sidecar_missing"),
    "no counts": (lambda copy: (copy / "00000_stats.json").unlink(), "", "sidecar_missing"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_verify_finds_what_contradicts_the_copy(
    crawl: tuple[Path, Path], tmp_path: Path, damage: str
) -> None:
    source, output = crawl
    change, alone, compared = DAMAGES[damage]
    copy = copy_both(output, tmp_path / "copy")
    assert verify(VerifyConfig(str(copy))).violations == []
    change(copy)
    assert dict(verify(VerifyConfig(str(copy))).counts) == ({alone: 1} if alone else {})
    report = verify(VerifyConfig(str(copy), against=str(source)))
    assert dict(report.counts) == {compared: 1}
    assert report.violations[0].shard == "00000"
    assert report.exit_code == 4


def test_verify_leaves_other_tables_alone_and_names_the_damaged_input(
    crawl: tuple[Path, Path], tmp_path: Path
) -> None:
    copy = copy_both(crawl[1], tmp_path / "copy")
    pq.write_table(pa.table({"embedding": [1.0]}), copy / "00000.parquet")
    (copy / "00000_stats.json").write_text("[1]")
    assert verify(VerifyConfig(str(copy))).violations == []
    source = Path(shutil.copytree(crawl[0], tmp_path / "source"))
    for name in ("00000.parquet", "00000_stats.json"):
        source.joinpath(name).write_bytes(b"{")
    counts = verify(VerifyConfig(str(copy), against=str(source))).counts
    assert dict(counts) == {"input_unreadable": 2}


def test_numbers_that_are_none_are_equal(corpus: Path, tmp_path: Path) -> None:
    source = crawled(corpus, tmp_path / "crawl")
    table = pq.read_table(source / "00000.parquet")
    none = pa.array([float("nan")] * table.num_rows)
    pq.write_table(table.append_column("similarity", none), source / "00000.parquet")
    config = ProtectConfig(
        str(source), str(tmp_path / "copy"), method="random", executor="local", max_quarantined=1
    )
    assert protect(config).exit_code == 0
    report = verify(VerifyConfig(str(tmp_path / "copy"), against=str(source)))
    assert report.violations == []


@pytest.fixture
def shard(corpus: Path, tmp_path: Path) -> Path:
    """The input, an empty output folder beside it and a manifest that a run has written."""
    source = crawled(corpus, tmp_path / "crawl")
    config = ProtectConfig(
        str(source), str(tmp_path / "first"), method="random", executor="local", max_quarantined=1
    )
    assert protect(config).exit_code == 0
    return source / "00000.tar"


def test_captions_without_triggers_and_lists_of_captions(shard: Path, tmp_path: Path) -> None:
    table = pq.read_table(shard.with_suffix(".parquet"))
    assert pq.read_table(tmp_path / "first" / "00000.parquet")["caption"] == table["caption"]
    rows = [{"key": f"{i:09d}", "alts": ["a", None]} for i in range(2)]
    pq.write_table(pa.Table.from_pylist(rows), shard.with_suffix(".parquet"))
    manifest = tmp_path / "manifest.parquet"
    names = ("key", "status", "reason", "output_sha256", "trigger_text")
    row = dict.fromkeys(names) | {"width": 1, "height": 1, "status": "protected"}
    made = [{**row, "key": f"{i:09d}", "trigger_text": "red dog" if i else ""} for i in range(2)]
    pq.write_table(pa.Table.from_pylist(made), manifest)
    publish_sidecars(str(shard), str(tmp_path / "out"), "00000", manifest, ("alts",))
    found = pq.read_table(tmp_path / "out" / "00000.parquet").to_pylist()
    assert [row["alts"] for row in found] == [["a", None], ["red dog a", None]]


def test_other_files_beside_a_shard_are_left_behind(
    shard: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = kept(tmp_path / "first") / "manifest" / "00000.parquet"
    pq.write_table(pa.table({"secret": ["x"]}), shard.with_suffix(".parquet"))
    shard.with_name("00000_stats.json").write_text("[1]")
    publish_sidecars(str(shard), str(tmp_path / "out"), "00000", manifest, ())
    assert not (tmp_path / "out").exists()
    assert caplog.text.count("is left behind") == 2


@pytest.mark.parametrize("name", ["00000.parquet", "00000_stats.json"])
def test_a_damaged_file_fails_its_shard(shard: Path, tmp_path: Path, name: str) -> None:
    manifest = kept(tmp_path / "first") / "manifest" / "00000.parquet"
    shard.with_name(name).write_bytes(b"{")
    with pytest.raises(ShardError, match=f"{name}: the file beside the shard cannot be read"):
        publish_sidecars(str(shard), str(tmp_path / "out"), "00000", manifest, ())
    config = ProtectConfig(
        str(shard), str(tmp_path / "copy"), method="random", executor="local", max_quarantined=1
    )
    summary = protect(config)
    assert summary.exit_code == 3
    assert name in summary.failed["00000"]
