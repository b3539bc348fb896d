"""A run from S3 to S3, and from a web server, over connections that break all the time."""

from __future__ import annotations

import functools
import http.server
import json
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_proxy import SECRETS, FaultProxy, Request, fault_proxy, s3_behind_a_proxy
from runs import both

from unlearnable.jobs.cli import main
from unlearnable.pipeline.data import transient
from unlearnable.pipeline.errors import UsageError
from unlearnable.pipeline.execution.config import ProtectConfig
from unlearnable.pipeline.execution.protect import protect
from unlearnable.pipeline.execution.status import run_status

pytest.importorskip("s3fs")
pytest.importorskip("moto.server")


@pytest.fixture(scope="module")
def s3(corpus: Path) -> Iterator[FaultProxy]:
    import boto3

    with s3_behind_a_proxy("corpus") as proxy:
        for path in corpus.iterdir():
            boto3.client("s3").upload_file(str(path), "corpus", f"in/{path.name}")
        yield proxy


def objects(prefix: str) -> dict[str, bytes]:
    import boto3

    bucket = boto3.resource("s3").Bucket("corpus")
    return {
        item.key.removeprefix(start): item.get()["Body"].read()
        for start in (prefix, f"{prefix.rstrip('/')}-record/")
        for item in bucket.objects.filter(Prefix=start)
    }


def faults_now_and_then(share: float) -> object:
    rng = random.Random(3)
    kinds = ["slow-down", "error-500", "refuse", "cut-request", "lose-answer", "cut-answer"]
    return lambda _: rng.choice([*kinds, "truncate"]) if rng.random() < share else ""


def test_a_run_over_breaking_connections_has_the_bytes_of_a_local_one(
    s3: FaultProxy, corpus: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    s3.rule = faults_now_and_then(0.08)  # type: ignore[assignment]
    options = ["--method", "random", "--executor", "local"]
    assert main(["protect", "s3://corpus/in", "s3://corpus/out", *options]) == 0
    assert main(["status", "s3://corpus/out"]) == 0
    s3.rule = lambda _: ""
    assert s3.faults > 10
    assert main(["protect", str(corpus), str(tmp_path / "out"), *options]) == 0
    remote = objects("out/")
    for name, path in both(tmp_path / "out").items():
        if path.suffix in {".tar", ".parquet"} and not path.name.startswith("_"):
            assert remote[name] == path.read_bytes()
    assert "_SUCCESS" in remote
    records = [json.loads(data) for name, data in remote.items() if name.startswith("_ledger/")]
    assert sum(record["retries"] for record in records) > 0
    assert run_status("s3://corpus/out").retries == sum(r["retries"] for r in records)

    seen = capfd.readouterr()
    written = [seen.out.encode(), seen.err.encode(), *remote.values()]
    for secret in SECRETS.values():
        assert not [text for text in written if secret.encode() in text]


def test_wrong_credentials_are_told_without_being_shown(
    s3: FaultProxy, capfd: pytest.CaptureFixture[str]
) -> None:
    def forbid(request: Request) -> str:
        return "forbidden" if request.method in {"GET", "HEAD"} else ""

    s3.rule = forbid
    try:
        code = main(["protect", "s3://corpus/in", "s3://corpus/no", "--method", "random"])
    finally:
        s3.rule = lambda _: ""
    seen = capfd.readouterr()
    assert code == 2
    assert "credentials" in seen.err
    assert not [secret for secret in SECRETS.values() if secret in seen.out + seen.err]


def test_a_store_that_stays_away_is_told_in_one_line(
    s3: FaultProxy, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transient, "ATTEMPTS", 2)
    s3.rule = lambda _: "slow-down"
    try:
        code = main(["protect", "s3://corpus/in", "s3://corpus/no", "--method", "random"])
    finally:
        s3.rule = lambda _: ""
    assert code == 3
    assert "(2 attempts); run the same command to go on" in capfd.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    "url",
    [
        "https://me:hunter2@host/a.tar",
        "s3://AKIA:hunter2@bucket/in",
        "https://host/{a,b}.tar?X-Amz-Signature=hunter2",
        "https://host/a.tar?sv=1&sig=hunter2",
        "simplecache::https://me:hunter2@host/a.tar",
    ],
)
def test_a_url_with_credentials_is_refused_and_not_repeated(url: str, tmp_path: Path) -> None:
    for source, output in ((url, str(tmp_path / "out")), (str(tmp_path), url)):
        (tmp_path / "a.tar").write_bytes(b"")
        with pytest.raises(UsageError, match=r"credentials|web server") as raised:
            protect(ProtectConfig(source, output, method="random", executor="local"))
        assert "hunter2" not in str(raised.value)
    assert not (tmp_path / "out").exists()


@pytest.fixture
def web(corpus: Path) -> Iterator[tuple[FaultProxy, str]]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(corpus))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        with fault_proxy(server.server_port) as found:
            yield found
        server.shutdown()
        thread.join()


def test_shards_from_a_web_server_that_breaks_off(
    web: tuple[FaultProxy, str], corpus: Path, tmp_path: Path
) -> None:
    proxy, base = web
    proxy.rule = lambda request: "truncate" if request.number % 3 == 2 else ""
    output = tmp_path / "out"
    config = ProtectConfig(f"{base}/shard-{{000..003}}.tar", str(output), method="random")
    assert protect(config).exit_code == 0
    assert proxy.faults > 2
    protect(ProtectConfig(str(corpus), str(tmp_path / "local"), method="random"))
    for path in (tmp_path / "local").glob("*.tar"):
        assert (output / path.name).read_bytes() == path.read_bytes()
    with pytest.raises(UsageError, match="can only be read from"):
        protect(ProtectConfig(str(corpus), f"{base}/out", method="random"))
