from __future__ import annotations

import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from unlearnable.pipeline.data import storage
from unlearnable.pipeline.errors import UsageError


@pytest.fixture(params=["local", "file", "memory"])
def base(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return {
        "local": str(tmp_path / "data"),
        "file": f"file://{tmp_path}/data",
        "memory": f"memory://{uuid.uuid4().hex}",
    }[request.param]


def test_write_read_list_remove(base: str, tmp_path: Path) -> None:
    url = storage.join(base, "sub", "a.bin")
    assert not storage.exists(url)
    assert storage.list_names(storage.join(base, "sub")) == []
    storage.write_bytes(url, b"one")
    storage.write_bytes(url, b"three")
    source = tmp_path / "source"
    source.write_bytes(b"file")
    storage.put_file(source, storage.join(base, "sub", "b.bin"))
    storage.write_bytes(storage.join(base, "sub", ".hidden"), b"x")
    storage.write_bytes(storage.join(base, "sub", "below", "c.bin"), b"x")
    assert storage.read_bytes(url) == b"three"
    assert storage.size(url) == 5
    with storage.open_read(url) as stream:
        assert (stream.read(2), stream.read()) == (b"th", b"ree")
    assert storage.list_names(storage.join(base, "sub")) == ["a.bin", "b.bin"]
    assert storage.is_folder(storage.join(base, "sub"))
    storage.remove(url)
    storage.remove(url)
    assert not storage.exists(url)
    with pytest.raises(FileNotFoundError):
        storage.read_bytes(url)


def test_identity_tells_versions_apart(base: str) -> None:
    url = storage.join(base, "a")
    storage.write_bytes(url, b"one")
    before = storage.identity(url)
    assert before == storage.identity(url)
    assert before["size"] == 3
    storage.write_bytes(url, b"two")
    assert storage.identity(url) != before


@pytest.mark.parametrize(
    ("start", "parts", "joined"),
    [
        ("out", ("a", "b"), "out/a/b"),
        ("/out/", ("a",), "/out/a"),
        ("/", ("a",), "/a"),
        ("memory://", ("a",), "memory://a"),
        ("s3://bucket/x/", ("m/", "/a"), "s3://bucket/x/m/a"),
    ],
)
def test_join(start: str, parts: tuple[str, ...], joined: str) -> None:
    assert storage.join(start, *parts) == joined


def test_base_name_without_query() -> None:
    assert storage.base_name("https://host/a/b.tar?token=x/y") == "b.tar"
    assert storage.base_name("/data/what?.tar") == "what?.tar"


def test_is_inside(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "in")
    inside = partial(storage.is_inside, parent=str(tmp_path / "in"))
    assert inside(str(tmp_path / "in"))
    assert inside(str(tmp_path / "in" / "x" / "y"))
    assert inside(f"file://{tmp_path}/in/x")
    assert inside(str(tmp_path / "link" / "x"))
    assert inside(str(tmp_path / "other" / ".." / "in" / "x"))
    assert not inside(str(tmp_path / "inner"))
    assert not inside(str(tmp_path))
    assert storage.is_inside("memory://a/b", "memory://a")
    assert not storage.is_inside("memory://ab", "memory://a")
    assert not storage.is_inside("memory://a/b", str(tmp_path))


def test_a_failed_local_write_leaves_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    target.write_bytes(b"before")
    code = (
        "import resource, signal, sys\n"
        "from unlearnable.pipeline.data import storage\n"
        "from unlearnable.pipeline.errors import UsageError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n"
        "    storage.write_bytes(sys.argv[1], bytes(5000))\n"
        "except UsageError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(target)], capture_output=True, text=True, check=True
    )
    assert str(target) in done.stdout
    assert "may write" in done.stdout
    assert target.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_no_space_left_is_explained() -> None:
    with (
        pytest.raises(UsageError, match="no space left; free some"),
        storage.explained("/dev/full"),
        open("/dev/full", "wb") as file,
    ):
        file.write(bytes(1 << 20))


def test_a_file_in_the_way_of_a_folder_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match="is a file, not a folder"):
        storage.write_bytes(str(tmp_path / "file" / "a"), b"x")


def test_sweep_removes_only_temporaries(tmp_path: Path) -> None:
    for name in (".a.tar.0123456789ab.tmp", ".a.tar.tmp", "a.tar", ".profile"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / ".train.0123456789ab.tmp").mkdir()
    assert storage.sweep(str(tmp_path)) == 1
    left = [".a.tar.tmp", ".profile", ".train.0123456789ab.tmp", "a.tar"]
    assert sorted(os.listdir(tmp_path)) == left
    assert storage.sweep(str(tmp_path / "none")) == 0


def test_new_files_follow_the_umask(tmp_path: Path) -> None:
    storage.write_bytes(str(tmp_path / "a"), b"x")
    (tmp_path / "b").write_bytes(b"x")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


class TornStore(MemoryFileSystem):
    """Keeps half of what arrives, then reports an error or nothing at all."""

    protocol = "torn"
    silent = False

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: object) -> None:
        super().pipe_file(path, value[: len(value) // 2], mode)
        if not self.silent:
            raise ConnectionResetError("the connection broke")


@pytest.mark.parametrize("silent", [False, True])
def test_a_torn_remote_write_leaves_nothing(silent: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec.register_implementation("torn", TornStore, clobber=True)
    monkeypatch.setattr(TornStore, "silent", silent)
    url = f"torn://{uuid.uuid4().hex}/a"
    with pytest.raises(OSError, match="holds 2 bytes" if silent else "the connection broke"):
        storage.write_bytes(url, b"1234")
    assert not storage.exists(url)


def test_an_unknown_scheme_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="nosuch"):
        storage.exists("nosuch://bucket/a")


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_read_from_a_web_server(web: str, tmp_path: Path) -> None:
    data = os.urandom(300_000)
    (tmp_path / "a.tar").write_bytes(data)
    with storage.open_read(f"{web}/a.tar") as stream:
        assert b"".join(iter(partial(stream.read, 7000), b"")) == data
    assert storage.size(f"{web}/a.tar") == len(data)
    assert storage.exists(f"{web}/a.tar")
    with pytest.raises(FileNotFoundError):
        storage.open_read(f"{web}/b.tar").read()
