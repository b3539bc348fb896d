"""Bytes of unknown origin: a small share of cases here, a hundred thousand by `make test-slow`.

What fuzzing found is kept in `FINDS`, each with what it did once.
"""

from __future__ import annotations

import io
import json
import random
import re
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import targets
from hypothesis import given, settings
from hypothesis import strategies as st
from targets import TARGETS

CASES = 100_000
# The rest of the cases, where a reader is slow.
SHARES = {"tar": 15_000, "image": 15_000, "caption": 15_000, "ledger": 15_000, "braces": 10_000}
OTHERS = 6_000


def mutated(seed: bytes, rng: random.Random) -> bytes:
    """``seed`` with a few bytes changed, cut out or doubled."""
    data = bytearray(seed)
    for _ in range(rng.randint(1, 4)):
        place, length = rng.randrange(len(data) + 1), rng.randint(1, 32)
        change = rng.choice(("set", "cut", "double", "end"))
        if change == "set":
            data[place : place + length] = rng.randbytes(len(data[place : place + length]))
        elif change == "cut":
            del data[place : place + length]
        elif change == "double":
            data[place:place] = data[place : place + length]
        else:
            del data[place:]
    return bytes(data)


@pytest.mark.parametrize("target", TARGETS)
def test_valid_input_and_what_is_near_it(target: str) -> None:
    rng = random.Random(0)
    for seed in targets.seeds()[target]:
        TARGETS[target](seed)
        for _ in range(60):
            TARGETS[target](mutated(seed, rng))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=12,
)


def near(seed: bytes) -> st.SearchStrategy[bytes]:
    """The JSON object ``seed`` with any value in any field, and fields that it did not have."""
    valid = json.loads(seed.decode().removeprefix("\ufeff"))
    names = st.sampled_from(sorted(valid)) | st.text(max_size=9)
    changes = st.dictionaries(names, JSON, max_size=3)
    return changes.map(lambda change: json.dumps({**valid, **change}).encode())


@pytest.mark.parametrize("target", ["ledger", "lease", "card", "caption"])
def test_json_of_any_shape(target: str) -> None:
    seed = targets.seeds()[target][-1]

    @settings(max_examples=60, deadline=None)
    @given(near(seed) | JSON.map(lambda value: json.dumps(value).encode()))
    def run(data: bytes) -> None:
        TARGETS[target](data)

    run()


def plan_of(name: str, metadata: dict[str, str] | None = None) -> bytes:
    """A plan with one shard of a name."""
    original = pq.read_table(io.BytesIO(targets.seeds()["plan"][0]))
    table = original.set_column(0, original.schema.field(0), pa.array([name]))
    buffer = io.BytesIO()
    pq.write_table(
        table.replace_schema_metadata({**original.schema.metadata, **(metadata or {})}), buffer
    )
    return buffer.getvalue()


def repeated_text() -> bytes:
    """A table of five kilobytes that takes 40 GB when each row holds its own text."""
    rows = 2000
    text = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), ["x" * 20_000_000])
    table = pa.table({"key": [str(row) for row in range(rows)], "caption": text})
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", store_schema=False)
    return buffer.getvalue()


DEEP = b"[" * 100_000
RECORD = b'{"shard": "shard-000", "status": "committed", "config_hash": "c", '
LEASE = b'{"run": "r", "config_hash": "c", "host": "h", "machine": "m", "state": "held", '
FINDS = {
    "plan-thrift": ("plan", targets.seeds()["plan"][0][:-9] + b"\xff" * 9),  # raised OSError
    "plan-above": ("plan", plan_of("../../etc/shard")),  # would have been written outside
    "plan-absolute": ("plan", plan_of("/etc/shard")),
    "plan-empty-name": ("plan", plan_of("")),
    "plan-config": ("plan", plan_of("a", {"config": "[]"})),
    "plan-deep": ("plan", plan_of("a", {"config": DEEP.decode()})),  # raised RecursionError
    "sidecar-thrift": ("sidecar", b"PAR1" + b"\xff" * 40 + (40).to_bytes(4, "little") + b"PAR1"),
    "sidecar-bomb": ("sidecar", repeated_text()),  # took all memory
    "ledger-types": ("ledger", b'{"shard": 1, "status": "committed", "config_hash": "c"}'),
    "ledger-deep": ("ledger", DEEP),
    "ledger-times": ("ledger", RECORD + b'"timings": {"finished": 1e999}}'),
    "ledger-list": ("ledger", b"[1]"),
    # These two raised OverflowError and TypeError.
    "lease-for-ever": (
        "lease",
        LEASE + b'"pid": 1, "process": "1", "heartbeat": 1, "expires": 1e17}',
    ),
    "lease-types": (
        "lease",
        LEASE + b'"pid": "x", "process": "1", "heartbeat": "1", "expires": "2"}',
    ),
    "lease-deep": ("lease", DEEP),
}


@pytest.mark.parametrize("name", FINDS)
def test_what_was_found_stays_mended(name: str) -> None:
    target, data = FINDS[name]
    TARGETS[target](data)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_a_hundred_thousand_cases_guided_by_coverage(tmp_path: Path) -> None:
    pytest.importorskip("atheris")
    done = {}
    for target in TARGETS:
        runs = SHARES.get(target, OTHERS)
        line = [sys.executable, str(Path(__file__).with_name("run.py")), target, f"-runs={runs}"]
        result = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert result.returncode == 0, (target, result.stderr[-3000:])
        found = re.search(r"Done (\d+) runs in (\d+) second", result.stderr)
        assert found is not None
        coverage = re.findall(r"cov: (\d+)", result.stderr)[-1]
        done[target] = int(found[1])
        print(f"{target}: {found[1]} cases in {found[2]} s, {coverage} places of the code reached")
    print(f"{sum(done.values())} cases")
    assert sum(done.values()) >= CASES
