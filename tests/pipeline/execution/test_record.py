"""Every command finds the record: where the user put it, or inside a copy of version 0.1.0."""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from runs import NOISE, copy_both, kept, place

from unlearnable.jobs.cli import main
from unlearnable.pipeline.data import storage
from unlearnable.pipeline.data.plan import read_plan
from unlearnable.pipeline.errors import UsageError
from unlearnable.pipeline.evaluate.comparisons import _published_trigger
from unlearnable.pipeline.execution.config import ProtectConfig
from unlearnable.pipeline.execution.protect import protect


def run(*line: object) -> int:
    return main([*map(str, line)])


@pytest.fixture(scope="module")
def made(corpus: Path, surrogate: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("made") / "out"
    config = ProtectConfig(str(corpus), str(output), surrogate=surrogate, executor="local")
    assert protect(config).exit_code == 0
    return output


def to_old_manifest(path: Path) -> str:
    """Take out the columns that version 0.1.0 did not write; return the digest of the file."""
    table = pq.read_table(path).drop_columns(["detail", "picture_digest", "pictures", "notes"])
    known = {k: v for k, v in pq.read_metadata(path).metadata.items() if k != b"ARROW:schema"}
    pq.write_table(table.replace_schema_metadata(known), path, compression="zstd")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def to_old(output: Path) -> Path:
    """Put the record inside; write manifests, ledger, index, mark and card as version 0.1.0 did."""
    record = kept(output)
    plan = read_plan(str(record))
    assert plan is not None
    for path in record.iterdir():
        shutil.move(path, output / path.name)
    record.rmdir()
    digests = {path.stem: to_old_manifest(path) for path in (output / "manifest").iterdir()}
    index = json.loads((output / "index.json").read_text())
    index = {"config_hash": plan.config_hash} | index
    del index["caption_fields"]
    for entry in index["shardlist"]:
        name = entry["url"].removesuffix(".tar")
        entry["manifest"] = f"manifest/{name}.parquet"
        entry["manifest_sha256"] = digests[name]
    (output / "index.json").write_text(json.dumps(index))
    (output / "_SUCCESS").write_text(f"{plan.config_hash}\n")
    (output / "README.md").write_text(f"| Surrogate | {plan.config['surrogate_sha256']} |")
    for path in (output / "_ledger").glob("*.json"):
        content = json.loads(path.read_text()) | {"passed": 0}
        manifest = output / "manifest" / f"{content['shard']}.parquet"
        content["manifest_sha256"] = digests[content["shard"]]
        content["manifest_size"] = manifest.stat().st_size
        for name in ("node", "traceback"):
            del content[name]
        path.write_text(json.dumps(content))
    return output


def test_a_copy_of_the_first_version_is_read_by_every_command(
    made: Path, corpus: Path, surrogate: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = to_old(copy_both(made, tmp_path / "old"))
    assert run("status", old) == 0
    assert "complete, 4 of 4 shards" in capsys.readouterr().out
    assert run("verify", old, "--against", corpus) == 0
    assert "not checked: the card, which version 0.1.0 wrote" in capsys.readouterr().out
    assert run("restore", old, tmp_path / "restored") == 0
    assert run("report", old, "--html", tmp_path / "page.html") == 0
    found = _published_trigger(str(old))
    assert found is not None
    assert found.words == 3
    assert run("retry", old, "--shards", "shard-001", "--executor", "local") == 0
    assert run("verify", old, "--against", corpus) == 0
    assert not kept(old).exists()
    capsys.readouterr()
    assert run("publish", old) == 4
    assert "Move manifest/, _ledger/, _log/" in capsys.readouterr().err


def test_a_copy_of_the_first_version_is_published_after_its_record_was_moved(
    made: Path, corpus: Path, surrogate: str, tmp_path: Path
) -> None:
    old = to_old(copy_both(made, tmp_path / "old"))
    kept(old).mkdir()
    for name in ("manifest", "_ledger", "_log", "_plan.parquet"):
        shutil.move(old / name, kept(old) / name)
    assert run("publish", old) == 4
    again = ("--surrogate", surrogate, "--executor", "local")
    assert run("protect", corpus, old, *again) == 0
    assert run("verify", old, "--against", corpus) == 0
    assert run("publish", old) == 0


def test_a_record_that_the_user_put_elsewhere(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, record = tmp_path / "out", ("--record", tmp_path / "far" / "kept")
    protecting = ("protect", corpus, output, *NOISE)
    assert run(*protecting, *record, "--slice", "0/2") == 0
    assert not kept(output).exists()
    assert run(*protecting) == 2
    assert "give --record as when it was begun" in capsys.readouterr().err
    assert run(*protecting, "--record", tmp_path / "other") == 2
    assert not kept(output).exists()
    assert not (tmp_path / "other").exists()
    assert run(*protecting, *record, "--slice", "1/2") == 0
    for command in (
        ("status",), ("verify", "--against", corpus), ("publish",),
        ("retry", "--shards", "shard-002", "--executor", "local"),
        ("report", "--html", tmp_path / "page.html"),
        ("restore", "--destination", tmp_path / "restored"),
    ):  # fmt: skip
        assert run(command[0], output, *command[1:], *record) == 0, command
        if command[0] != "verify":
            assert run(command[0], output, *command[1:]) == 2, command
    assert (tmp_path / "restored-record" / "_ledger" / "shard-001.json").exists()


def test_a_record_in_the_output_or_in_the_input_is_refused(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = shutil.copytree(corpus, tmp_path / "in")
    for record, told in ((tmp_path / "out" / "x", "published with it"), (source / "x", "inside")):
        assert run("protect", source, tmp_path / "out", *NOISE, "--record", record) == 2
        assert told in capsys.readouterr().err
        assert not record.exists()


def test_a_run_that_has_another_record_already_is_refused(corpus: Path, tmp_path: Path) -> None:
    """Also before the first shard is committed: the plan beside the output tells."""
    output = str(tmp_path / "out")
    config = ProtectConfig(str(corpus), output, method="random", executor="local", slice="0/2")
    protect(config)
    for path in (tmp_path / "out").iterdir():
        path.unlink()
    with pytest.raises(UsageError, match=r"the record of .* is .*out-record, not"):
        protect(replace(config, record=str(tmp_path / "other")))


def test_output_and_record_in_different_stores(corpus: Path, tmp_path: Path) -> None:
    record = f"memory://{uuid.uuid4().hex}/kept"
    output = tmp_path / "out"
    assert run("protect", corpus, output, *NOISE, "--record", record) == 0
    assert run("verify", output, "--against", corpus, "--record", record) == 0
    names = set(storage.walk(record))
    assert {"_plan.parquet", "_ledger/shard-000.json", "manifest/shard-003.parquet"} <= names
    assert place(output, "_SUCCESS").exists()
    assert {path.name for path in output.iterdir() if path.suffix != ".tar"} == {
        "README.md", "croissant.json", "index.json", "_SUCCESS",
    }  # fmt: skip
