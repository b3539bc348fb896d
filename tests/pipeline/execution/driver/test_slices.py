"""Slices of a plan: an array's tasks share an output and no shard."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from runs import kept

from unlearnable.pipeline.data.plan import Plan, ShardInput
from unlearnable.pipeline.errors import UsageError
from unlearnable.pipeline.execution.config import ProtectConfig
from unlearnable.pipeline.execution.driver.lease import lease_output
from unlearnable.pipeline.execution.driver.slices import take_slice
from unlearnable.pipeline.execution.driver.stop import StopFlag
from unlearnable.pipeline.execution.protect import protect
from unlearnable.pipeline.verify.verify import VerifyConfig, verify

SHARDS = 5


@pytest.fixture(scope="module")
def five(build_shards: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_shards(tmp_path_factory.mktemp("five") / "in", shards=SHARDS, samples=4)


def config(source: Path, output: Path, **changes: object) -> ProtectConfig:
    made = ProtectConfig(str(source), str(output), method="random", executor="local")
    return replace(made, **changes)  # type: ignore[arg-type]


def begun(output: Path) -> list[str]:
    """Names of the shards that runs began, in no order."""
    lines = [
        line for log in kept(output).glob("_log/*.jsonl") for line in log.read_text().splitlines()
    ]
    events = [json.loads(line) for line in lines]
    return sorted(e["shard"] for e in events if e["event"] == "shard_begun")


def test_slices_cover_a_plan_once_and_neighbours_part() -> None:
    plan = Plan(tuple(ShardInput(f"s{n}", f"/s{n}.tar") for n in range(7)), {}, "c", "1")
    slices = [[s.name for s in take_slice(plan, f"{i}/3").shards] for i in range(3)]
    assert slices == [["s0", "s3", "s6"], ["s1", "s4"], ["s2", "s5"]]
    assert take_slice(plan, None) is plan
    assert take_slice(plan, "8/9").shards == ()


@pytest.mark.parametrize("text", ["3/3", "1", "-1/3", "0/0", "1/x", "1/3/4", ""])
def test_what_is_no_slice_is_refused_before_anything_is_read(text: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"slice is .*; give I/N"):
        protect(config(tmp_path / "nothing", tmp_path / "out", slice=text))


def test_the_last_slice_completes_the_output(five: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    first = protect(config(five, output, slice="0/2"))
    assert (first.exit_code, first.committed, first.shards) == (0, 3, 3)
    assert not (output / "_SUCCESS").exists()
    assert not (output / "README.md").exists()
    second = protect(config(five, output, slice="1/2"))
    assert (second.exit_code, second.committed, second.shards) == (0, 2, 2)
    assert (output / "_SUCCESS").exists()
    assert begun(output) == [f"shard-{n:03d}" for n in range(SHARDS)]
    assert verify(VerifyConfig(str(output), against=str(five))).exit_code == 0
    # As one run would have written it, card and index included.
    protect(config(five, tmp_path / "whole"))
    for name in ("index.json", "README.md", "croissant.json", "_SUCCESS"):
        assert (output / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_two_regions_write_the_bytes_of_one_run(five: Path, surrogate: str, tmp_path: Path) -> None:
    """Outputs that share nothing, over two parts of a corpus that lie in different places."""
    names = sorted(path.name for path in five.glob("*.tar"))
    how = {"method": "mem", "surrogate": surrogate, "batch_size": 2, "steps": 1}
    protect(config(five, tmp_path / "one", **how))
    found: list[Path] = []
    for region, part in (("east", names[:2]), ("west", names[2:])):
        folder, output = tmp_path / region / "in", tmp_path / region / "out"
        folder.mkdir(parents=True)
        for name in part:
            shutil.copy(five / name, folder)
        assert protect(config(folder, output, **how)).exit_code == 0
        found += [*output.glob("*.tar"), *kept(output).glob("manifest/*.parquet")]
    assert len(found) == 2 * SHARDS
    for path in found:
        folder = kept(tmp_path / "one") / "manifest" if path.suffix == ".parquet" else None
        assert path.read_bytes() == ((folder or tmp_path / "one") / path.name).read_bytes(), path


def test_a_run_without_a_slice_does_what_slices_left(five: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    protect(config(five, output, slice="1/3"))
    dry = protect(config(five, output, slice="0/3", dry_run=True))
    assert (dry.shards, dry.committed) == (2, 0)
    assert protect(config(five, output, join=True)).exit_code == 0
    assert begun(output) == [f"shard-{n:03d}" for n in range(SHARDS)]
    assert (output / "_SUCCESS").exists()


def test_a_failed_shard_is_the_failure_of_its_slice_alone(five: Path, tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    for path in five.glob("*.tar"):
        (source / path.name).write_bytes(path.read_bytes())
    whole = (source / "shard-001.tar").read_bytes()
    (source / "shard-001.tar").write_bytes(whole[: len(whole) // 2])
    output = tmp_path / "out"
    assert protect(config(source, output, slice="1/2")).exit_code == 3
    assert protect(config(source, output, slice="0/2")).exit_code == 0
    assert not (output / "_SUCCESS").exists()
    closing = protect(config(source, output, join=True))
    assert (closing.exit_code, list(closing.failed)) == (3, ["shard-001"])


def test_slices_that_begin_at_once_do_each_shard_once(five: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    start = threading.Barrier(4)
    codes = []

    def one(number: int) -> None:
        start.wait()
        codes.append(protect(config(five, output, slice=f"{number}/4")).exit_code)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == [0, 0, 0, 0]
    assert sorted({*begun(output)}) == begun(output)
    assert (output / "_SUCCESS").exists()


def test_a_hundred_that_begin_at_once_find_one_first_within_seconds(tmp_path: Path) -> None:
    start = threading.Barrier(100)
    alone, joined, gone = [], [], threading.Barrier(100)

    def one(number: int) -> None:
        start.wait()
        with lease_output(str(tmp_path / "out"), "c", StopFlag(), join=True) as lease:
            (joined if lease.others else alone).append(number)
            lease.hold()
            gone.wait(60)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(alone), len(joined)) == (1, 99)
