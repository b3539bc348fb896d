from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from unlearnable.pipeline.data import storage
from unlearnable.pipeline.data.expand import expand
from unlearnable.pipeline.data.plan import inspect_shards, resolve_input
from unlearnable.pipeline.data.shards import Member, Sample, open_shard, write_shard
from unlearnable.pipeline.errors import ShardError, UsageError

pytest.importorskip("s3fs")
moto_server = pytest.importorskip("moto.server")


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    import s3fs

    server = moto_server.ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        s3fs.S3FileSystem.clear_instance_cache()
        # All servers of one process hold the same buckets.
        name = f"storage-{uuid.uuid4()}"
        s3fs.S3FileSystem().mkdir(name)
        yield f"s3://{name}"
        s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


def test_objects(bucket: str, tmp_path: Path) -> None:
    url = f"{bucket}/plain/a.json"
    storage.write_bytes(url, b"{}")
    assert storage.read_bytes(url) == b"{}"
    before = storage.identity(url)
    assert before["size"] == 2
    assert before["etag"]
    storage.write_bytes(url, b"[]")
    assert storage.identity(url) != before
    (tmp_path / "b").write_bytes(bytes(70_000))
    storage.put_file(tmp_path / "b", f"{bucket}/plain/b")
    assert storage.list_names(f"{bucket}/plain") == ["a.json", "b"]
    assert storage.list_names(f"{bucket}/nothing") == []
    storage.remove(url)
    assert not storage.exists(url)
    assert storage.is_inside(f"{bucket}/plain/b", f"{bucket}/plain/")


def test_no_credentials(bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import s3fs

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    s3fs.S3FileSystem.clear_instance_cache()
    try:
        for ask in (storage.read_bytes, storage.exists, expand):
            with pytest.raises(UsageError, match="locate credentials; set AWS_ACCESS_KEY_ID"):
                ask(f"{bucket}/x")
        with pytest.raises(UsageError, match="locate credentials"):
            storage.write_bytes(f"{bucket}/x", b"")
        monkeypatch.setenv("AWS_PROFILE", "gone")
        s3fs.S3FileSystem.clear_instance_cache()
        with pytest.raises(UsageError, match=r"gone.*; mend AWS_PROFILE"):
            storage.read_bytes(f"{bucket}/x")
    finally:
        s3fs.S3FileSystem.clear_instance_cache()


def test_a_name_that_no_bucket_has(bucket: str) -> None:
    with pytest.raises(UsageError, match=r'Invalid bucket name "a b"; mend the URL$'):
        expand("s3://a b/in")


def test_shards(bucket: str, tmp_path: Path) -> None:
    sample = Sample("k", (Member("k.txt", "txt", b"hello"),), 0)
    sha256, size = write_shard(tmp_path / "a.tar", [sample])
    for name in ("x/train-000.tar", "x/train-001.tar", "x/_ledger/train-000.json", "x/index.json"):
        storage.put_file(tmp_path / "a.tar", f"{bucket}/{name}")
    shards = [f"{bucket}/x/train-000.tar", f"{bucket}/x/train-001.tar"]
    assert expand(f"{bucket}/x") == shards
    assert expand(f"{bucket}/x/") == shards
    assert expand(f"{bucket}/x/train-*.tar") == shards
    assert expand(f"{bucket}/x/train-{{000..001}}.tar") == shards
    assert [shard.size for shard in resolve_input(f"{bucket}/x")] == [size, size]
    with open_shard(shards[0]) as reader:
        assert list(reader) == [sample]
        assert reader.sha256 == sha256
    with pytest.raises(UsageError, match="does not exist"):
        expand(f"{bucket}/nowhere")
    with pytest.raises(ShardError, match="missing"), open_shard(f"{bucket}/x/none.tar"):
        pass


@pytest.mark.parametrize("store", ["s3", "memory"])
def test_many_objects_are_listed_and_tell_what_asking_for_each_tells(
    bucket: str, store: str
) -> None:
    base = f"{bucket}/many" if store == "s3" else "memory://many/in"
    urls = [f"{base}/{number:03d}.tar" for number in range(70)]
    for number, url in enumerate(urls[:-1]):
        storage.write_bytes(url, bytes(number))
    assert len(storage.list_identities(base)) == (69 if store == "s3" else 0)
    found = inspect_shards(urls)
    assert found == [inspect_shards([url])[0] for url in urls]
    assert [shard.size for shard in found] == [*range(69), None]
