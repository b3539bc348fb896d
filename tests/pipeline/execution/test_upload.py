"""A published copy goes to the Hub and to other stores, whole, and is read from there."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hub_server import TOKEN, Blob, HubServer, Repository, hub_server
from runs import copy_both, kept

from unlearnable.pipeline.data import storage
from unlearnable.pipeline.data.images import image_member
from unlearnable.pipeline.data.local_files import temporary_path
from unlearnable.pipeline.data.plan import resolve_input
from unlearnable.pipeline.data.shards import open_shard
from unlearnable.pipeline.errors import UsageError, ViolationError
from unlearnable.pipeline.execution import upload as uploading
from unlearnable.pipeline.execution.config import ProtectConfig, PublishConfig
from unlearnable.pipeline.execution.protect import protect
from unlearnable.pipeline.execution.publish import publish
from unlearnable.pipeline.execution.upload import upload

NAME = "acme/boats"
URL = f"hf://datasets/{NAME}"
MARKS = ["index.json", "_SUCCESS", "_PUBLISHED"]


@pytest.fixture(scope="module")
def copy(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published copy of two shards, with its record beside it."""
    folder = tmp_path_factory.mktemp("upload") / "out"
    config = ProtectConfig(
        f"{corpus}/shard-00[01].tar", str(folder), method="random", executor="local",
        owner="ACME", title="Boats", license="cc-by-4.0", language=("en",),
    )  # fmt: skip
    assert protect(config).exit_code == 0
    publish(PublishConfig(str(folder)))
    return folder


@pytest.fixture
def hub() -> Iterator[HubServer]:
    pytest.importorskip("huggingface_hub")
    with hub_server() as server:
        yield server


@pytest.fixture
def here(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HubServer:
    """The Hub for calls inside this process, whose library has read its environment before."""
    from huggingface_hub import constants

    for name, value in hub.environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    return hub


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def call(hub: HubServer, home: Path, *line: object, token: str | None = TOKEN) -> tuple[int, str]:
    """Run a Python program, or a command of this one, against the Hub."""
    words = [str(word) for word in line]
    words = words if words[0] == "-c" else ["-m", "unlearnable", *words]
    environment = {name: text for name, text in os.environ.items() if not name.startswith("HF_")}
    done = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, check=False, cwd=home,
        env={**environment, **hub.environment(home, token)},
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_publish_to_the_hub_and_load_it_back(hub: HubServer, copy: Path, tmp_path: Path) -> None:
    code, told = call(hub, tmp_path, "publish", copy, URL, "--private")
    assert code == 0, told
    assert f"{URL}: 7 files sent, 0 were there; all have the checksums" in told
    repository = hub.repositories[NAME]
    assert repository.private
    assert repository.files() == files(copy)
    assert not any("manifest" in name or "_ledger" in name for name in repository.files())
    assert len(repository.commits) == 1

    script = f"""
from datasets import load_dataset
rows = load_dataset("{NAME}", split="train")
print(len(rows), rows[0]["__key__"], rows[0]["png"].size, rows.features["txt"].dtype)
"""
    code, told = call(hub, tmp_path, "-c", script)
    assert code == 0, told
    assert "40 000-00000 (48, 48) string" in told


def test_a_copy_on_the_hub_is_an_input(here: HubServer, copy: Path, tmp_path: Path) -> None:
    upload(str(copy), str(kept(copy)), URL)
    with open_shard(str(copy / "shard-000.tar")) as reader:
        row = {"image": {"bytes": image_member(next(iter(reader))).data}, "caption": "a boat"}
    table = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([row]), table)
    tables = {"data/train-0.parquet": Blob(table.getvalue(), large=True)}
    here.repositories["acme/tables"] = Repository(branches={"main": tables})
    again = tmp_path / "again"
    # The folder is listed too, and what stands in a plan tells versions apart.
    script = f"""
from unlearnable.jobs.cli import main
from unlearnable.pipeline.data.plan import resolve_input
for shard in resolve_input("{URL}"):
    print(shard.name, shard.url, shard.size, shard.etag)
assert main(["data", "parquet", "hf://datasets/acme/tables", "{tmp_path}/shards"]) == 0
line = ["protect", "{URL}/shard-000.tar", "{again}", "--method", "random", "--executor", "local"]
assert main(line) == 2  # it is told that this is a protected copy already
line.append("--again")
raise SystemExit(main(line))
"""
    code, told = call(here, tmp_path, "-c", script)
    assert code == 0, told
    assert (again / "shard-000.tar").stat().st_size > 10_000
    with open_shard(str(tmp_path / "shards" / "train-000.tar")) as reader:
        assert [member.ext for member in next(iter(reader)).members] == ["png", "txt"]
    assert "source_datasets:\n- acme/boats\n" in (again / "README.md").read_text()
    blob = here.repositories[NAME].branches["main"]["shard-001.tar"]
    expected = f"shard-001 {URL}/shard-001.tar {len(blob.data)} blob_id:{blob.git}"
    assert expected in told.splitlines(), told


@pytest.mark.slow
def test_webdataset_reads_it_from_the_hub(here: HubServer, copy: Path, tmp_path: Path) -> None:
    upload(str(copy), str(kept(copy)), URL)
    script = f"""
import fsspec, webdataset as wds
def shards():
    for number in range(2):
        url = f"{URL}/shard-00{{number}}.tar"
        yield {{"url": url, "stream": fsspec.open(url, "rb").open()}}
expand, group = wds.tariterators.tar_file_expander, wds.tariterators.group_by_keys
found = list(wds.DataPipeline(shards, expand, group, wds.decode("pil")))
print(len(found), found[0]["png"].size)
"""
    code, told = call(here, tmp_path, "-c", script)
    assert code == 0, told
    assert "40 (48, 48)" in told


def test_an_upload_goes_on_where_it_was_cut_off(
    here: HubServer, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploading, "_GROUP_FILES", 2)
    here.fail_after, here.part, here.page = 1, 5000, 2
    with pytest.raises(UsageError, match=r"the Hub answers 403 .*out of quota.*HF_TOKEN"):
        upload(str(copy), str(kept(copy)), URL)
    repository = here.repositories[NAME]
    assert set(repository.files()) == {"shard-000.tar", "shard-001.tar"}
    sent = list(here.uploads)
    assert len(sent) == 2
    here.fail_after = None
    done = upload(str(copy), str(kept(copy)), URL)
    assert (done.sent, done.kept) == (5, 2)
    commits = len(repository.commits)
    assert upload(str(copy), str(kept(copy)), URL).sent == 0
    assert len(repository.commits) == commits == 4
    assert here.uploads == sent
    assert repository.files() == files(copy)
    assert list(repository.files())[-3:] == MARKS


def test_a_new_statement_changes_the_card_and_no_shard(
    copy: Path, corpus: Path, tmp_path: Path
) -> None:
    output = copy_both(copy, tmp_path / "out")
    before = files(output)
    config = ProtectConfig(
        f"{corpus}/shard-00[01].tar", str(output), method="random", executor="local",
        license="cc0-1.0", usage=("DUO:0000042",),
    )  # fmt: skip
    assert protect(config).exit_code == 0
    changed = {name for name, data in files(output).items() if data != before[name]}
    assert changed == {"README.md", "croissant.json"}
    assert "license: cc0-1.0\n" in (output / "README.md").read_text()
    there = tmp_path / "there"
    shutil.copytree(copy, there)
    assert upload(str(output), str(kept(output)), str(there)).sent == 2


def test_what_arrives_damaged_is_told(here: HubServer, copy: Path) -> None:
    here.spoil = True
    with pytest.raises(ViolationError, match=r"shard-000\.tar is not what was sent \(2 such"):
        upload(str(copy), str(kept(copy)), URL)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("hf://acme/boats", "names no dataset of the Hub"),
        ("hf://datasets/boats", "names no dataset of the Hub"),
        ("hf://datasets/acme/bo..ats", "Cannot have -- or .. in repo_id"),
        ("https://acme.example/boats", "cannot be written"),
    ],
)
def test_a_destination_that_is_none(here: HubServer, copy: Path, url: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        upload(str(copy), str(kept(copy)), url)


@pytest.mark.parametrize("url", ["hf://boats", "hf://datasets/boats", "hf://datasets/a/bo..ats"])
def test_an_input_that_is_no_dataset(here: HubServer, url: str) -> None:
    with pytest.raises(UsageError, match="write hf://datasets/OWNER/NAME"):
        resolve_input(url)


def test_who_may_not_write_is_told(hub: HubServer, copy: Path, tmp_path: Path) -> None:
    code, told = call(hub, tmp_path, "publish", copy, URL, token="hf_wrong")  # noqa: S106
    assert code == 2
    assert "set HF_TOKEN to a token that may write there" in told
    assert hub.repositories == {}


def test_a_branch_and_a_folder_of_a_repository(here: HubServer, copy: Path) -> None:
    upload(str(copy), str(kept(copy)), f"{URL}@next/v1")
    repository = here.repositories[NAME]
    assert repository.files() == {}
    assert repository.files("next") == {f"v1/{name}": data for name, data in files(copy).items()}


@pytest.fixture(params=["local", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "there") if request.param == "local" else f"memory://{uuid.uuid4().hex}/x"


def test_publish_to_any_store(copy: Path, place: str) -> None:
    told = str(publish(PublishConfig(str(copy), place)))
    assert f"{place}: 7 files sent, 0 were there" in told
    found = {name: storage.read_bytes(storage.join(place, name)) for name in storage.walk(place)}
    assert found == files(copy)
    storage.write_bytes(storage.join(place, "shard-001.tar"), b"cut off")
    done = publish(PublishConfig(str(copy), place)).upload
    assert done is not None
    assert (done.sent, done.kept) == (1, 6)
    index = json.loads(storage.read_bytes(storage.join(place, "index.json")))
    data = storage.read_bytes(storage.join(place, "shard-001.tar"))
    assert hashlib.sha256(data).hexdigest() == index["shardlist"][1]["sha256"]


def test_files_of_something_else_are_refused_and_kept(copy: Path, place: str) -> None:
    storage.write_bytes(storage.join(place, "train-009.tar"), b"of last year")
    with pytest.raises(UsageError, match=r"holds train-009\.tar, which is no file of"):
        publish(PublishConfig(str(copy), place))
    assert storage.walk(place) == ["train-009.tar"]


def test_a_shard_that_changed_after_it_was_committed_is_not_sent(
    copy: Path, tmp_path: Path
) -> None:
    output = copy_both(copy, tmp_path / "out")
    data = bytearray((output / "shard-001.tar").read_bytes())
    data[2000] ^= 1
    (output / "shard-001.tar").write_bytes(data)
    with pytest.raises(ViolationError, match=r"shard-001\.tar is not what index\.json says"):
        publish(PublishConfig(str(output), str(tmp_path / "there")))
    assert not (tmp_path / "there").exists()


def test_output_and_record_are_no_destination(copy: Path, tmp_path: Path) -> None:
    output = copy_both(copy, tmp_path / "out")
    for place in (output, output / "x", kept(output), tmp_path):
        with pytest.raises(UsageError, match="lie in each other"):
            publish(PublishConfig(str(output), str(place)))


def test_a_temporary_file_of_a_dead_writer_is_not_published(copy: Path, tmp_path: Path) -> None:
    output = copy_both(copy, tmp_path / "out")
    shutil.copy(output / "index.json", temporary_path(output / "index.json"))
    upload(str(output), str(kept(output)), str(tmp_path / "there"))
    assert set(files(tmp_path / "there")) == set(files(copy))
