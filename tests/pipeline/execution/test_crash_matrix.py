"""The process dies at every storage operation in turn; the same command again makes it good."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fault_proxy import FaultProxy, Request, no_fault, s3_behind_a_proxy
from runs import both, kept, place
from trusting_reader import TrustingReader

pytestmark = pytest.mark.timeout(7200)

Files = dict[str, bytes]
SUPPORT = Path(__file__).parents[2] / "support"
DEAD = 99
SHARDS = 2
OPTIONS = ["--method", "random", "--executor", "local", "--image-format", "png"]


class Host:
    """A process that has everything imported and forks for each command."""

    def __init__(self) -> None:
        line = [sys.executable, str(SUPPORT / "crash_host.py")]
        self.process = subprocess.Popen(
            line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def _line(self) -> int:
        assert self.process.stdout is not None
        return int(self.process.stdout.readline())

    def start(self, command: list[str], log: Path, **order: object) -> int:
        assert self.process.stdin is not None
        full = {"command": command, "output": str(log), **order}
        self.process.stdin.write(json.dumps(full) + "\n")
        return self._line()

    def run(self, command: list[str], log: Path, **order: object) -> int:
        self.start(command, log, **order)
        return self.wait()

    def wait(self) -> int:
        return self._line()

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    host = Host()
    yield host
    host.close()


@pytest.fixture(scope="module")
def tiny(build_shards: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_shards(tmp_path_factory.mktemp("tiny") / "in", shards=SHARDS, samples=3, size=16)


def assert_ledger_is_true(files: Files) -> None:
    """What a reader sees who trusts the ledger: whatever is on record is there, whole."""
    records = [
        json.loads(data)
        for name, data in files.items()
        if name.startswith("_ledger/") and name.endswith(".json") and "/." not in name
    ]
    for record in records:
        for name, kind in (("{}.tar", "shard"), ("manifest/{}.parquet", "manifest")):
            data = files[name.format(record["shard"])]
            assert hashlib.sha256(data).hexdigest() == record[f"{kind}_sha256"]
            assert len(data) == record[f"{kind}_size"]
    if "_SUCCESS" in files:
        assert {record["shard"] for record in records} == {"shard-000", "shard-001"}
        assert len(json.loads(files["index.json"])["shardlist"]) == 2


def settled(files: Files) -> dict[str, object]:
    """Everything that a run leaves, less what tells of its time and of its attempts."""
    result: dict[str, object] = {}
    for name, data in files.items():
        if name.startswith(("_ledger/",)):
            record = json.loads(data)
            for key in ("timings", "queues", "attempts", "retries"):
                del record[key]
            result[name] = record
        elif not name.startswith("_log/"):
            result[name] = data
    return result


def local_files(output: Path) -> Files:
    return {name: path.read_bytes() for name, path in both(output).items()}


@pytest.fixture(scope="module")
def undisturbed(
    host: Host, tiny: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, object], list[str]]:
    """What a run leaves that nobody disturbs, and the operations that it does."""
    folder = tmp_path_factory.mktemp("undisturbed")
    output, log = folder / "out", folder / "log"
    command = ["protect", str(tiny), str(output), *OPTIONS]
    assert host.run(command, log, watch=str(output)) == 0, log.read_text()
    files = local_files(output)
    assert_ledger_is_true(files)
    assert "_SUCCESS" in files
    operations = Path(f"{log}.count").read_text().split()
    assert operations.count("os.rename") >= 12
    return settled(files), operations


def local_reader(output: Path) -> TrustingReader:
    def names() -> set[str]:
        records = kept(output).glob("_ledger/*")
        return {path.name for path in output.glob("*")} | {f"_ledger/{p.name}" for p in records}

    return TrustingReader(names, lambda name: place(output, name).read_bytes(), SHARDS)


def crash_and_resume(
    host: Host, tiny: Path, folder: Path, expected: dict[str, object], stop: int, *, half: bool
) -> TrustingReader:
    output, log = folder / f"out-{stop}-{half}", folder / "log"
    command = ["protect", str(tiny), str(output), *OPTIONS]
    reader = local_reader(output)
    with reader.reading():
        code = host.run(command, log, watch=str(output), stop=stop, half=half)
        assert code == DEAD, log.read_text()
        assert_ledger_is_true(local_files(output))
        assert host.run(command, log) == 0, log.read_text()
    files = local_files(output)
    assert_ledger_is_true(files)
    assert settled(files) == expected
    return reader


def test_a_death_at_some_operations(
    host: Host, tiny: Path, tmp_path: Path, undisturbed: tuple[dict[str, object], list[str]]
) -> None:
    expected, operations = undisturbed
    renames = [number for number, name in enumerate(operations) if name == "os.rename"]
    for stop in renames[1::4]:
        crash_and_resume(host, tiny, tmp_path, expected, stop, half=True)
    crash_and_resume(host, tiny, tmp_path, expected, len(operations) - 2, half=False)


@pytest.mark.slow
def test_a_death_at_every_operation_on_local_files(
    host: Host, tiny: Path, tmp_path: Path, undisturbed: tuple[dict[str, object], list[str]]
) -> None:
    """Death after an operation is death before the next one."""
    expected, operations = undisturbed
    points = [(stop, False) for stop in range(len(operations))]
    points += [(stop, True) for stop, name in enumerate(operations) if name == "os.rename"]
    readers = [
        crash_and_resume(host, tiny, tmp_path, expected, stop, half=half) for stop, half in points
    ]
    looks, trusted = sum(r.looks for r in readers), sum(r.trusted for r in readers)
    halves = operations.count("os.rename")
    print(f"{len(operations)} operations, {halves} of them also half done: {len(points)} deaths;")
    print(f"a reader looked {looks} times and trusted {trusted} records")
    assert trusted > len(points)


@pytest.fixture(scope="module")
def s3(tiny: Path) -> Iterator[FaultProxy]:
    pytest.importorskip("s3fs")
    pytest.importorskip("moto.server")
    import boto3

    with s3_behind_a_proxy("crash") as proxy:
        for path in tiny.iterdir():
            boto3.client("s3").upload_file(str(path), "crash", f"in/{path.name}")
        yield proxy


def s3_files(proxy: FaultProxy, prefix: str) -> Files:
    import boto3

    direct = f"http://127.0.0.1:{proxy.target}"
    bucket = boto3.resource("s3", endpoint_url=direct).Bucket("crash")
    return {
        item.key.removeprefix(start): item.get()["Body"].read()
        for start in (f"{prefix}/", f"{prefix}-record/")
        for item in bucket.objects.filter(Prefix=start)
    }


def s3_reader(proxy: FaultProxy, prefix: str) -> TrustingReader:
    import boto3

    direct = f"http://127.0.0.1:{proxy.target}"
    bucket = boto3.resource("s3", endpoint_url=direct).Bucket("crash")

    def names() -> set[str]:
        return {
            item.key.removeprefix(start)
            for start in (f"{prefix}/", f"{prefix}-record/")
            for item in bucket.objects.filter(Prefix=start)
        }

    def read(name: str) -> bytes:
        folder = f"{prefix}-record" if name.startswith(("_ledger/", "manifest/")) else prefix
        data: bytes = bucket.Object(f"{folder}/{name}").get()["Body"].read()
        return data

    return TrustingReader(names, read, SHARDS)


class Death:
    """Kills a process when it makes the request of a number: before, in the middle, or after."""

    def __init__(self, proxy: FaultProxy, stop: int, fault: str) -> None:
        self.proxy, self.stop, self.fault = proxy, stop, fault
        self.pid = 0
        proxy.requests.clear()
        proxy.rule, proxy.strike = self.rule, self.kill

    def rule(self, request: Request) -> str:
        return self.fault if request.number == self.stop else ""

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


def s3_run(host: Host, proxy: FaultProxy, prefix: str, log: Path, death: Death | None) -> int:
    command = ["protect", "s3://crash/in", f"s3://crash/{prefix}", *OPTIONS]
    names = [name for name in os.environ if name.startswith("AWS_")]
    environment = {name: os.environ[name] for name in names}
    pid = host.start(command, log, environment=environment)
    if death is not None:
        death.pid = pid
    code = host.wait()
    proxy.rule, proxy.strike = no_fault, bool
    return code


@pytest.mark.slow
def test_a_death_at_every_request_to_s3(
    host: Host, s3: FaultProxy, tmp_path: Path, undisturbed: tuple[dict[str, object], list[str]]
) -> None:
    log = tmp_path / "log"
    s3.requests.clear()
    assert s3_run(host, s3, "undisturbed", log, None) == 0, log.read_text()
    requests = list(s3.requests)
    expected = settled(s3_files(s3, "undisturbed"))
    images = {name: data for name, data in undisturbed[0].items() if name.endswith(".tar")}
    assert {name: data for name, data in expected.items() if name.endswith(".tar")} == images
    step = int(os.environ.get("CRASH_MATRIX_STEP", "1"))
    readers = []
    for stop in range(0, len(requests), step):
        faults = ["refuse", "lose-answer"]
        faults += ["cut-request"] if requests[stop].method in {"PUT", "POST"} else []
        for fault in faults:
            prefix = f"{fault}-{stop}"
            reader = s3_reader(s3, prefix)
            with reader.reading():
                code = s3_run(host, s3, prefix, log, Death(s3, stop, fault))
                assert code == -signal.SIGKILL, (prefix, code, log.read_text())
                assert_ledger_is_true(s3_files(s3, prefix))
                assert s3_run(host, s3, prefix, log, None) == 0, (prefix, log.read_text())
            files = s3_files(s3, prefix)
            assert_ledger_is_true(files)
            assert settled(files) == expected, prefix
            readers.append(reader)
    looks, trusted = sum(r.looks for r in readers), sum(r.trusted for r in readers)
    print(f"{len(requests)} requests, {len(readers)} deaths;")
    print(f"a reader looked {looks} times and trusted {trusted} records")
    assert trusted > len(readers)
