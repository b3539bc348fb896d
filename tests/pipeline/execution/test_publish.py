"""What a stranger finds in a published folder, and what `publish` refuses to publish."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from runs import copy_both, kept

from unlearnable.pipeline.data.manifest import ManifestRow, manifest_url, read_manifest
from unlearnable.pipeline.data.shards import Sample, open_shard
from unlearnable.pipeline.errors import ViolationError
from unlearnable.pipeline.execution.config import ProtectConfig, PublishConfig
from unlearnable.pipeline.execution.protect import protect
from unlearnable.pipeline.execution.publish import publish

SEED = 918273645


@pytest.fixture(scope="module")
def published(corpus: Path, surrogate: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published copy of shards that a crawler wrote, made with a seed that is easy to find."""
    folder = tmp_path_factory.mktemp("published")
    source = folder / "in"
    shutil.copytree(corpus, source)
    keys = [sample.key for sample in samples_of(source / "shard-000.tar")]
    rows = [{"key": key, "caption": "a", "sha256": f"{n:064x}"} for n, key in enumerate(keys)]
    pq.write_table(pa.Table.from_pylist(rows), source / "shard-000.parquet")
    (source / "shard-000_stats.json").write_text('{"count": 20, "successes": 20}')
    config = ProtectConfig(
        str(source), str(folder / "out"), surrogate=surrogate, executor="local", seed=SEED
    )
    assert protect(config).exit_code == 0
    assert publish(PublishConfig(config.output)).new
    return folder / "out"


def samples_of(shard: Path) -> list[Sample]:
    with open_shard(str(shard)) as reader:
        return list(reader)


def rows_of(output: Path) -> list[ManifestRow]:
    shards = [path.stem for path in sorted(output.glob("*.tar"))]
    return [
        row for shard in shards for row in read_manifest(manifest_url(str(kept(output)), shard))[0]
    ]


def texts(output: Path) -> Iterator[tuple[str, str]]:
    """Every file, unpacked as far as formats are known: name and text; captions left out."""
    for path in sorted(output.rglob("*")):
        if path.suffix == ".tar":
            with tarfile.open(path) as archive:
                for member in archive:
                    yield f"{path.name}: header", json.dumps(member.get_info(), default=str)
            for sample in samples_of(path):
                for member in sample.members:
                    if member.ext not in ("txt", "json"):
                        yield f"{path.name}/{member.name}", member.data.decode("latin1")
        elif path.suffix == ".parquet":
            file = pq.ParquetFile(path)
            table = file.read()
            columns = [name for name in table.column_names if name != "caption"]
            yield (
                path.name,
                f"{file.schema} {file.metadata.metadata} {table.select(columns).to_pylist()}",
            )
        elif path.is_file():
            yield path.name, path.read_bytes().decode("latin1")


def test_a_stranger_finds_no_trigger_no_seed_and_no_original(published: Path) -> None:
    rows = rows_of(published)
    assert len(rows) == 80
    record = json.loads((kept(published) / "_ledger" / "shard-000.json").read_text())
    plan = pq.ParquetFile(kept(published) / "_plan.parquet").schema_arrow.metadata
    secrets = {str(SEED), plan[b"config_hash"].decode(), record["input"]["sha256"]}
    secrets |= {str(json.loads(plan[b"config"])["surrogate_sha256"])}
    for row in rows:
        assert row.trigger_text
        assert row.input_sha256
        secrets |= {row.trigger_text, row.input_sha256, str(row.batch_seed)}
        secrets |= set(map(str, row.shuffle_seeds or []))
    secrets |= {f"{number:064x}" for number in range(20)}
    secrets |= {bytes.fromhex(s).decode("latin1") for s in secrets if len(s) == 64}
    found = dict(texts(published))
    assert {"README.md", "croissant.json", "index.json", "shard-000.parquet"} <= set(found)
    pattern = re.compile("|".join(map(re.escape, sorted(secrets))))
    leaks = {name: match[0] for name, text in found.items() if (match := pattern.search(text))}
    assert leaks == {}
    assert {name.split("/")[0] for name in found} >= {"shard-003.tar"}


def test_the_test_above_would_find_what_it_looks_for(published: Path, tmp_path: Path) -> None:
    """The record, looked through in the same way, names every trigger and every original."""
    told = " ".join(text for _, text in texts(kept(published)))
    assert all(str(row.trigger_text) in told for row in rows_of(published))
    assert all(str(row.input_sha256) in told for row in rows_of(published))
    assert f'"seed":{SEED}' in told


@pytest.mark.parametrize(
    "name",
    ["manifest/shard-001.parquet", "_ledger/shard-001.json", "_plan.parquet", "_log", "weights",
     "surrogate.json", "key", "key.hex", "foreign.tar"],
)  # fmt: skip
@pytest.mark.parametrize("target", ["notes/.hidden", "LICENSE"])
def test_what_undoes_the_protection_is_not_published(
    published: Path, surrogate: str, tmp_path: Path, name: str, target: str
) -> None:
    output = copy_both(published, tmp_path / "out")
    place = output / target
    place.parent.mkdir(exist_ok=True)
    if name == "_log":
        [source] = kept(output).glob("_log/*.jsonl")
        lines = [line for line in source.read_text().splitlines() if "shard_ended" in line]
        place.write_text("\n".join(lines))
    elif name in ("weights", "surrogate.json"):
        file = "weights.safetensors" if name == "weights" else name
        shutil.copy(Path(surrogate) / file, place)
    elif name.startswith("key"):
        place.write_bytes(bytes(range(32)) if name == "key" else b"5f" * 32)
    elif name == "foreign.tar":
        shutil.copy(output / "shard-001.tar", place.with_suffix(".tar"))
    else:
        shutil.copy(kept(output) / name, place)
    (output / "_PUBLISHED").unlink()
    with pytest.raises(ViolationError, match=re.escape(Path(target).name.split(".tar")[0])):
        publish(PublishConfig(str(output)))
    assert not (output / "_PUBLISHED").exists()


def test_files_of_the_owner_are_published(published: Path, tmp_path: Path) -> None:
    output = copy_both(published, tmp_path / "out")
    (output / "LICENSE").write_text("CC BY 4.0")
    (output / "before-after.png").write_bytes(b"\x89PNG" + bytes(200))
    (output / "docs").mkdir()
    (output / "docs" / "index.html").write_text("<p>a picture and its trigger words</p>")
    assert not publish(PublishConfig(str(output))).new


def test_a_shard_that_was_cut_off_is_not_published(published: Path, tmp_path: Path) -> None:
    output = copy_both(published, tmp_path / "out")
    shard = output / "shard-001.tar"
    os.truncate(shard, shard.stat().st_size - 512)
    (output / "_PUBLISHED").unlink()
    with pytest.raises(ViolationError, match=r"shard-001\.tar has \d+ bytes, not the"):
        publish(PublishConfig(str(output)))
    assert not (output / "_PUBLISHED").exists()


def test_the_mark_names_the_index(published: Path) -> None:
    mark = json.loads((published / "_PUBLISHED").read_text())
    index = (published / "index.json").read_bytes()
    assert mark["index_sha256"] == hashlib.sha256(index).hexdigest()
    assert set(mark) == {"index_sha256", "samples", "shards", "version"}
