"""Two runs, one output: real drivers at once, and leases that dead runs left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from runs import digests, kept

from unlearnable.pipeline.data import storage
from unlearnable.pipeline.errors import UsageError
from unlearnable.pipeline.execution.config import ProtectConfig
from unlearnable.pipeline.execution.driver import lease as leases
from unlearnable.pipeline.execution.driver.lease import (
    Lease,
    OutputLease,
    lease_output,
    read_leases,
)
from unlearnable.pipeline.execution.driver.stop import Interrupted, StopFlag
from unlearnable.pipeline.execution.protect import protect

pytestmark = pytest.mark.timeout(900)
SHARDS = 24


WRITTEN = ("_SUCCESS", "index.json", "_plan.parquet", "README.md")


@pytest.fixture(scope="module")
def many(build_shards: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_shards(tmp_path_factory.mktemp("many") / "in", shards=SHARDS, samples=30, seed=3)


def driver(source: Path, output: Path, *options: str) -> subprocess.Popen[str]:
    line = [sys.executable, "-m", "unlearnable", "protect", str(source), str(output)]
    fixed = ["--method", "random", "--executor", "local"]
    return subprocess.Popen([*line, *fixed, *options], stderr=subprocess.PIPE, text=True)


@contextmanager
def held_by_a_driver(source: Path, output: Path) -> Iterator[subprocess.Popen[str]]:
    """A driver that stands still in the middle of its work, its lease held."""
    process = driver(source, output)
    try:
        while not list(kept(output).glob("_ledger/*.json")):
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
        process.send_signal(signal.SIGSTOP)
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_second_driver_refuses_and_a_joined_one_shares_the_work(
    many: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    config = ProtectConfig(str(many), str(output), method="random", executor="local")
    with held_by_a_driver(many, output) as first:
        with pytest.raises(UsageError, match=rf"process {first.pid}, lease until .* --join"):
            protect(config)
        with pytest.raises(UsageError, match="belongs to another configuration"):
            protect(replace(config, epsilon=4, join=True))
        before = len(list(kept(output).glob("_ledger/*.json")))
        second = driver(many, output, "--join")
        while len(list(kept(output).glob("_ledger/*.json"))) < before + 2:
            assert second.poll() is None, second.communicate()
            time.sleep(0.02)
        first.send_signal(signal.SIGCONT)
        assert (first.wait(), second.wait()) == (0, 0)
    records = [json.loads(path.read_text()) for path in kept(output).glob("_ledger/*.json")]
    assert len(records) == SHARDS
    assert not list(kept(output).glob("_lease/*"))
    undisturbed = replace(config, output=str(tmp_path / "undisturbed"))
    protect(undisturbed)
    assert digests(output, *WRITTEN) == digests(tmp_path / "undisturbed", *WRITTEN)


def test_a_driver_that_died_here_is_noticed_at_once(many: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    with held_by_a_driver(many, output):
        pass
    assert len(list(kept(output).glob("_lease/*.json"))) == 1
    config = ProtectConfig(str(many), str(output), method="random", executor="local")
    assert protect(config).exit_code == 0
    assert not list(kept(output).glob("_lease/*"))


@pytest.fixture(params=["local", "memory"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "out") if request.param == "local" else f"memory://{uuid.uuid4().hex}"


def foreign(output: str, **changes: object) -> Lease:
    """Write the lease of a run on another machine."""
    now = time.time()
    facts: dict[str, object] = {
        "run": "20200101T000000Z-0000",
        "config_hash": "c",
        "host": "far",
        "pid": 1,
        "machine": "another",
        "process": "77",
        "state": "held",
        "heartbeat": now,
        "expires": now + 60,
    }
    lease = Lease(**{**facts, **changes})  # type: ignore[arg-type]
    url = storage.join(output, "_lease", f"{lease.run}.json")
    storage.write_bytes(url, json.dumps(asdict(lease)).encode())
    return lease


def test_a_lease_from_elsewhere_holds_until_it_expires(output: str) -> None:
    expires = time.time() + 5.0
    foreign(output, expires=expires)
    with (
        pytest.raises(UsageError, match="host far, process 1"),
        lease_output(output, "c", StopFlag(), join=False),
    ):
        pass
    time.sleep(max(0.0, expires - time.time()))
    with lease_output(output, "c", StopFlag(), join=False) as lease:
        assert lease.others == 0
        lease.hold()
        assert [found.run for found in read_leases(output)] == [lease.run]
    assert read_leases(output) == []


def test_joining_is_for_the_same_configuration_only(output: str) -> None:
    foreign(output)
    with lease_output(output, "c", StopFlag(), join=True) as lease:
        assert lease.others == 1
    with (
        pytest.raises(UsageError, match="another configuration"),
        lease_output(output, "d", StopFlag(), join=True),
    ):
        pass
    assert len(read_leases(output)) == 1


def test_a_number_that_another_process_has_now_is_no_sign_of_life(output: str) -> None:
    own = OutputLease(output, "c", join=False)._lease
    assert replace(own, expires=time.time() + 9).live
    assert not replace(own, expires=time.time() + 9, process="1").live
    assert not replace(own, expires=time.time() - 1).live


def test_a_claim_waits_for_one_before_it_and_stops_when_told(output: str) -> None:
    foreign(output, state="claimed")
    stop = StopFlag()
    stop._signum = signal.SIGTERM
    with pytest.raises(Interrupted), lease_output(output, "c", stop, join=True):
        pass
    foreign(output, state="claimed", expires=time.time() + 1)
    with lease_output(output, "c", StopFlag(), join=True) as lease:
        assert lease.others == 0


def test_a_claim_survives_a_run_that_sweeps_the_output(output: str) -> None:
    """What is half-written vanishes under its writer, again and again."""
    ended = threading.Event()

    def sweep() -> None:
        while not ended.wait(0.02):
            leases.remove_expired(output)

    sweeper = threading.Thread(target=sweep)
    sweeper.start()
    try:
        for _ in range(60):
            with lease_output(output, "c", StopFlag(), join=False) as lease:
                assert lease.others == 0
                assert [found.run for found in read_leases(output)] == [lease.run]
    finally:
        ended.set()
        sweeper.join()


@pytest.mark.parametrize("join", [False, True])
def test_of_many_claims_at_once_exactly_one_is_first(output: str, join: bool) -> None:
    """Ten runs begin at the same instant; without joining nine refuse, with it nine join."""
    start = threading.Barrier(10)
    first, joined, refused, preparing = [], [], [], []

    def one(number: int) -> None:
        start.wait()
        try:
            with lease_output(output, "c", StopFlag(), join=join) as lease:
                if lease.others == 0:
                    preparing.append(number)
                    time.sleep(0.3)
                    assert preparing == [number]
                    first.append(number)
                else:
                    assert first, "nobody joins before the output is prepared"
                    joined.append(number)
                lease.hold()
                # Who looks later would find the output free.
                deadline = time.monotonic() + 60
                while len(joined) + len(refused) < 9 and time.monotonic() < deadline:
                    time.sleep(0.05)
        except UsageError:
            refused.append(number)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(first) == 1
    assert (len(joined), len(refused)) == ((9, 0) if join else (0, 9))


def test_a_run_that_stood_still_for_too_long_stops(
    output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "HEARTBEAT_SECONDS", 0.05)
    with lease_output(output, "c", StopFlag(), join=False) as lease:
        lease.hold()
        wait_for_a_heartbeat(output)
        lease.check()
        # Another run found the lease expired and cleared it away.
        deadline = time.monotonic() + 30
        storage.remove(storage.join(output, "_lease", f"{lease.run}.json"))
        while not lost(lease):
            assert time.monotonic() < deadline, "the loss went unseen"
            time.sleep(0.02)


def wait_for_a_heartbeat(output: str) -> None:
    before = read_leases(output)[0].expires
    deadline = time.monotonic() + 30
    while read_leases(output)[0].expires <= before:
        assert time.monotonic() < deadline, "no heartbeat"
        time.sleep(0.02)


def lost(lease: OutputLease) -> bool:
    try:
        lease.check()
    except UsageError as error:
        return "stood still for too long" in str(error)
    return False


def test_a_claim_is_kept_while_the_output_is_prepared(
    output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "HEARTBEAT_SECONDS", 0.05)
    with lease_output(output, "c", StopFlag(), join=False) as lease:
        wait_for_a_heartbeat(output)
        # Run ids count seconds: only then does the next one sort behind.
        time.sleep(1.0)
        with (
            pytest.raises(UsageError, match="is being written by"),
            lease_output(output, "c", StopFlag(), join=False),
        ):
            pass
        lease.hold()


def test_a_claim_that_was_lost_is_not_held(output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a driver that stood still, its heart too, while another run took the output."""
    monkeypatch.setattr(leases, "LEASE_SECONDS", 0.2)
    with lease_output(output, "c", StopFlag(), join=False) as lease:
        time.sleep(0.3)
        with lease_output(output, "c", StopFlag(), join=False) as other:
            other.hold()
            with pytest.raises(UsageError, match="stood still for too long"):
                lease.hold()


def test_a_finished_driver_leaves_no_lease_and_no_thread(tmp_path: Path, corpus: Path) -> None:
    output = tmp_path / "out"
    assert protect(ProtectConfig(str(corpus), str(output), method="random")).exit_code == 0
    assert os.listdir(kept(output) / "_lease") == []
    assert not [thread for thread in threading.enumerate() if thread.name == "lease"]
