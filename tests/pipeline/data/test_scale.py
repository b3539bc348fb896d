"""A plan of a million shards, and the resume check of a finished run of a hundred thousand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from processes import PEAK

_PLAN = """
import sys, time
from unlearnable.pipeline.data.plan import Plan, config_hash, read_plan, resolve_input, write_plan
started = time.monotonic()
shards = resolve_input(sys.argv[1])
resolved = time.monotonic()
write_plan(sys.argv[2], Plan(shards, {}, config_hash({}), "1"))
written = time.monotonic()
first = peak() // 1024
count = len(shards)
del shards
assert len(read_plan(sys.argv[2]).shards) == count
read = time.monotonic()
print(count, resolved - started, written - resolved, read - written, first, peak() // 1024)
"""

_RESUME = """
import sys, time
from unlearnable.pipeline.execution.config import ProtectConfig
from unlearnable.pipeline.execution.protect import make_spec, protect
from unlearnable.pipeline.data.ledger import LedgerRecord, record_url, write_record
from unlearnable.pipeline.data.plan import Plan, config_hash, resolve_input, write_plan
config = ProtectConfig(sys.argv[1], sys.argv[2], method="random", executor="local")
spec = make_spec(config).as_dict()
plan = Plan(resolve_input(config.input), spec, config_hash(spec), spec["version"])
kept = f"{config.output}-record"
write_plan(kept, plan)
import json, os
from dataclasses import asdict
os.makedirs(os.path.join(kept, "_ledger"))
for shard in plan.shards:
    record = LedgerRecord(
        shard.name, "committed", plan.config_hash, samples=1, protected=1, shard_sha256="0" * 64,
        manifest_sha256="0" * 64, input={"url": shard.url, "size": shard.size, "etag": shard.etag},
        timings={"started": 1.0, "finished": 2.0, "seconds": 1.0, "optimise": 0.5, "upload": 0.1},
    )
    with open(record_url(kept, shard.name), "w") as file:
        json.dump(asdict(record), file)
started = time.monotonic()
summary = protect(config)
assert (summary.exit_code, summary.committed) == (0, len(plan.shards))
print(time.monotonic() - started, peak() // 1024)
"""


def empty_shards(folder: Path, count: int) -> Path:
    folder.mkdir()
    for number in range(count):
        with open(folder / f"shard-{number:07d}.tar", "xb"):
            pass
    return folder


def figures(script: str, source: Path, output: Path) -> list[float]:
    line = [sys.executable, "-c", PEAK + script, str(source), str(output)]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    return [float(word) for word in done.stdout.split()]


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_a_plan_of_a_million_shards(tmp_path: Path) -> None:
    source = empty_shards(tmp_path / "in", 1_000_000)
    for name in (source, Path(f"{source}/shard-{{0000000..0999999}}.tar")):
        count, resolve, write, read, peak, both = figures(_PLAN, name, tmp_path / "out")
        times = f"resolve {resolve:.1f} s, write {write:.1f} s, read {read:.1f} s"
        print(f"{times}, peak {peak} MB, with the reading {both} MB")
        assert count == 1_000_000
        assert resolve + write < 60
        assert read < 60
        assert peak < 500


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_the_resume_check_of_a_finished_run_of_a_hundred_thousand_shards(tmp_path: Path) -> None:
    source = empty_shards(tmp_path / "in", 100_000)
    seconds, peak = figures(_RESUME, source, tmp_path / "out")
    print(f"{seconds:.1f} s, {peak} MB")
    assert seconds < 60
