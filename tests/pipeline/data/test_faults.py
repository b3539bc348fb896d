"""Storage over a real S3 server and a real web server whose connections are harmed on the way."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from fault_proxy import FaultProxy, Request, Rule, fault_proxy, no_fault, s3_behind_a_proxy

from unlearnable.pipeline.data import storage, transient
from unlearnable.pipeline.data.transient import retries
from unlearnable.pipeline.errors import UnavailableError

pytest.importorskip("s3fs")
pytest.importorskip("moto.server")

DATA = bytes(range(256)) * 400
# aiohttp itself asks once more on a connection that was reset before any answer.
RESETS = {"refuse", "cut-request", "lose-answer"}


@pytest.fixture(scope="module")
def s3() -> Iterator[FaultProxy]:
    with s3_behind_a_proxy("faulty") as proxy:
        yield proxy


@pytest.fixture
def proxy(s3: FaultProxy) -> Iterator[FaultProxy]:
    s3.requests.clear()
    s3.faults = 0
    yield s3
    s3.rule = no_fault


def first(fault: str, method: str, times: int = 1) -> Rule:
    """The rule that harms the first ``times`` requests of a method."""
    seen = []

    def rule(request: Request) -> str:
        if request.method == method and len(seen) < times:
            seen.append(request)
            return fault
        return ""

    return rule


@pytest.mark.parametrize(
    "fault", ["slow-down", "error-500", "refuse", "cut-request", "lose-answer"]
)
def test_a_write_that_is_disturbed_twice_is_whole_and_counted(
    proxy: FaultProxy, fault: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(DATA)
    url = f"s3://faulty/{fault}"
    for write in (
        lambda: storage.write_bytes(url, DATA),
        lambda: storage.put_file(tmp_path / "file", url),
    ):
        before = retries()
        proxy.rule = first(fault, "PUT", times=2)
        write()
        assert retries() - before == (1 if fault in RESETS else 2)
        proxy.rule = no_fault
        assert storage.read_bytes(url) == DATA


@pytest.mark.parametrize(
    "fault", ["slow-down", "error-500", "refuse", "lose-answer", "cut-answer", "truncate", "slow"]
)
def test_reads_that_are_disturbed_give_every_byte_once(proxy: FaultProxy, fault: str) -> None:
    url = "s3://faulty/read"
    storage.write_bytes(url, DATA)
    before = retries()
    proxy.rule = first(fault, "GET", times=2)
    assert storage.read_bytes(url) == DATA
    proxy.rule = first(fault, "GET", times=2)
    with storage.open_read(url) as stream:
        assert b"".join(iter(partial(stream.read, 7001), b"")) == DATA
    assert retries() - before == (0 if fault == "slow" else 2 if fault in RESETS else 4)


def test_listing_looking_and_removing_are_repeated_too(proxy: FaultProxy) -> None:
    url = "s3://faulty/folder/a"
    storage.write_bytes(url, b"x")
    for method, ask in (
        ("GET", lambda: storage.list_names("s3://faulty/folder") == ["a"]),
        ("HEAD", lambda: storage.size(url) == 1),
        ("HEAD", lambda: storage.exists(url)),
        ("DELETE", lambda: storage.remove(url) is None),
    ):
        for fault in ("error-500", "lose-answer"):
            proxy.rule = first(fault, method)
            faults = proxy.faults
            assert ask(), (method, fault)
            assert proxy.faults == faults + 1
    assert not storage.exists(url)


def test_trouble_that_stays_is_given_up_after_a_bounded_number_of_attempts(
    proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transient, "ATTEMPTS", 3)
    proxy.rule = lambda request: "slow-down" if request.method == "PUT" else ""
    with pytest.raises(UnavailableError, match=r"slow down \(3 attempts\)"):
        storage.write_bytes("s3://faulty/never", DATA)
    assert len([r for r in proxy.requests if r.method == "PUT"]) == 3
    assert not storage.exists("s3://faulty/never")


def test_what_will_not_pass_is_not_repeated(proxy: FaultProxy) -> None:
    before = retries()
    for ask in (storage.read_bytes, storage.identity):
        with pytest.raises(FileNotFoundError):
            ask("s3://faulty/none")
    with pytest.raises(FileNotFoundError):
        storage.write_bytes("s3://no-such-bucket/a", b"x")
    assert retries() == before


def test_an_object_that_is_replaced_while_it_is_read_is_noticed(proxy: FaultProxy) -> None:
    url = "s3://faulty/changing"
    storage.write_bytes(url, DATA)
    stream = storage.open_read(url)
    storage.write_bytes(url, DATA[::-1])
    with pytest.raises(OSError, match="replaced while it was read"), stream:
        stream.read(10)


@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[FaultProxy, str]]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        with fault_proxy(server.server_port) as found:
            yield found
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("fault", ["error-500", "error-429", "refuse", "cut-answer", "truncate"])
def test_a_web_server_that_is_disturbed_gives_every_byte_once(
    web: tuple[FaultProxy, str], fault: str, tmp_path: Path
) -> None:
    proxy, base = web
    data = os.urandom(700_000)
    (tmp_path / "a.tar").write_bytes(data)
    before = retries()
    proxy.rule = first(fault, "GET", times=2)
    with storage.open_read(f"{base}/a.tar") as stream:
        assert b"".join(iter(partial(stream.read, 30_000), b"")) == data
    assert proxy.faults == 2
    assert retries() - before == (1 if fault in RESETS else 2)
    proxy.rule = first("error-500", "HEAD")
    assert storage.exists(f"{base}/a.tar")
    assert not storage.exists(f"{base}/b.tar")
