"""From S3 to S3 through Ray workers over connections that break, and with lists that lag behind."""

from __future__ import annotations

import os
import random
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_proxy import SECRETS, FaultProxy, Request, fault_proxy, no_fault
from runs import both
from servers import ray_server, s3_server

pytest.importorskip("s3fs")
pytest.importorskip("moto.server")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
KINDS = ("slow-down", "error-500", "refuse", "cut-request", "lose-answer", "cut-answer", "truncate")


@pytest.fixture
def store(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[FaultProxy, int]]:
    """A proxy in front of an S3 server in a process of its own, and the server's port."""
    import boto3

    for name, value in {**SECRETS, "AWS_DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(name, value)
    with s3_server() as port, fault_proxy(port) as (proxy, url):
        direct = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}")
        direct.create_bucket(Bucket="corpus")
        for path in corpus.iterdir():
            direct.upload_file(str(path), "corpus", f"in/{path.name}")
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        yield proxy, port


def objects(port: int, prefix: str) -> dict[str, bytes]:
    import boto3

    bucket = boto3.resource("s3", endpoint_url=f"http://127.0.0.1:{port}").Bucket("corpus")
    return {
        item.key.removeprefix(start): item.get()["Body"].read()
        for start in (prefix, f"{prefix.rstrip('/')}-record/")
        for item in bucket.objects.filter(Prefix=start)
    }


def protect(source: str, output: str, *options: str) -> subprocess.CompletedProcess[bytes]:
    line = [sys.executable, "-m", "unlearnable", "protect", source, output, "--method", "random"]
    return subprocess.run([*line, *options], capture_output=True, check=False)


def published(files: dict[str, bytes]) -> dict[str, bytes]:
    ends = (".tar", ".parquet")
    return {name: d for name, d in files.items() if name.endswith(ends) and name[0] != "_"}


def local_run(corpus: Path, output: Path) -> dict[str, bytes]:
    assert protect(str(corpus), str(output), "--executor", "local").returncode == 0
    return published({name: path.read_bytes() for name, path in both(output).items()})


@pytest.mark.ray
def test_ray_workers_over_breaking_connections(
    store: tuple[FaultProxy, int], corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bytes are those of a local run, and what was secret is nowhere, Ray's logs included."""
    proxy, port = store
    rng = random.Random(5)
    proxy.rule = lambda _: rng.choice(KINDS) if rng.random() < 0.08 else ""
    # Paths of sockets are short.
    logs = Path(tempfile.mkdtemp(prefix="r", dir="/tmp"))
    monkeypatch.setenv("RAY_TMPDIR", str(logs))
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    try:
        with ray_server(os.environ) as address:
            monkeypatch.setenv("RAY_ADDRESS", address)
            done = protect(
                "s3://corpus/in", "s3://corpus/out", "--executor", "ray", "--workers", "2"
            )
        proxy.rule = no_fault
        assert done.returncode == 0, done.stderr[-3000:]
        assert proxy.faults > 5
        remote = objects(port, "out/")
        assert published(remote) == local_run(corpus, tmp_path / "out")
        assert "_SUCCESS" in remote
        files = [path for path in logs.rglob("*") if path.is_file() and not path.is_symlink()]
        assert any("worker" in path.name for path in files)
        seen = [done.stdout, done.stderr, *remote.values(), *(f.read_bytes() for f in files)]
        for value in SECRETS.values():
            assert not [text for text in seen if value.encode() in text]
    finally:
        shutil.rmtree(logs, ignore_errors=True)


def test_lists_that_lag_behind_cost_no_work_and_lose_nothing(
    store: tuple[FaultProxy, int], corpus: Path, tmp_path: Path
) -> None:
    """Every list stays as it was before anything was written; records are asked for by name."""
    proxy, port = store

    def stale(request: Request) -> str:
        return "stale" if "list-type" in request.path else ""

    proxy.rule = stale
    options = ("--executor", "local")
    first = protect("s3://corpus/in", "s3://corpus/out", "--slice", "0/2", *options)
    assert first.returncode == 0, first.stderr
    half = {name for name in objects(port, "out/") if name.startswith("_ledger/")}
    assert len(half) == 2
    writes = len(proxy.requests)
    second = protect("s3://corpus/in", "s3://corpus/out", *options)
    assert second.returncode == 0, second.stderr
    remote = objects(port, "out/")
    assert published(remote) == local_run(corpus, tmp_path / "out")
    assert "_SUCCESS" in remote
    put = [r.path for r in proxy.requests[writes:] if r.method == "PUT" and ".tar" in r.path]
    assert len(put) == 2
