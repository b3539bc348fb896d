"""Records on the local disk behave as a dict of them, sorted by name."""

from __future__ import annotations

import subprocess
import sys

import pytest
from processes import PEAK

from unlearnable.pipeline.data.ledger import LedgerRecord, Records
from unlearnable.pipeline.errors import UsageError
from unlearnable.pipeline.execution.driver.schedule import is_storage_full

NAMES = ("b", "a", "é", "\udcff", "a b/c'")


def record(name: str, **changes: object) -> LedgerRecord:
    facts: dict[str, object] = {
        "timings": {"seconds": 0.1 + 0.2},
        "input": {"size": None},
        "loss": float("inf"),
    }
    facts |= {"status": "committed", "config_hash": "c", **changes}
    return LedgerRecord(name, **facts)  # type: ignore[arg-type]


def test_records_are_kept_by_name() -> None:
    records, plain = Records(), {}
    for name in NAMES:
        records[name] = plain[name] = record(name)
    assert records == plain
    assert list(records) == sorted(NAMES)
    records["a"] = plain["a"] = record("a", status="failed", error="\0")
    assert dict(records.items()) == plain
    assert records.failed == {"a"}
    assert records.pop("b") == plain["b"]
    assert ("b" in records, "a" in records, 1 in records, len(records)) == (False, True, False, 4)
    assert records.get("b") is None
    records["a"] = record("a")
    assert not records.failed
    for missing in (lambda: records["b"], lambda: records.__delitem__("b")):
        with pytest.raises(KeyError):
            missing()


def test_a_full_disk_is_told_and_ends_a_run_as_such() -> None:
    records = Records()
    records._db.execute("PRAGMA max_page_count = 3")
    many = {str(number): record(str(number)) for number in range(1000)}
    with pytest.raises(UsageError, match=r"cannot write temporary files in .*no space") as told:
        records.update(many)
    assert is_storage_full(told.value)


def test_memory_does_not_grow_with_the_records() -> None:
    code = """
from unlearnable.pipeline.data.ledger import LedgerRecord, Records
def fill(records, count):
    for number in range(count):
        name = f"shard-{number:07d}"
        records[name] = LedgerRecord(name, "committed", "c" * 64, shard_sha256="d" * 64)
    assert sum(record.attempts for record in records.values()) == count
    return peak()
first = fill(Records(), 5_000)
print(fill(Records(), 50_000) - first)
"""
    done = subprocess.run(
        [sys.executable, "-c", PEAK + code], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 2_000  # kB: 40 bytes a record
