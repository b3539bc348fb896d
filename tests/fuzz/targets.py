"""What untrusted bytes may do to each reader: give a result that holds, or one of its own errors.

Each target takes bytes and returns; whatever else it raises is a find. `SEEDS` has a valid input of
each, to start from.
"""

from __future__ import annotations

import io
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from manifests import write_manifest

from unlearnable.pipeline.data.captions import read_captions, strip_trigger, with_trigger
from unlearnable.pipeline.data.card import check_card
from unlearnable.pipeline.data.expand import expand_braces
from unlearnable.pipeline.data.images import decode, encode
from unlearnable.pipeline.data.ledger import LedgerRecord, read_ledger, read_record
from unlearnable.pipeline.data.manifest import ManifestRow, open_manifest
from unlearnable.pipeline.data.plan import Plan, ShardInput, config_hash, read_plan, write_plan
from unlearnable.pipeline.data.shards import (
    Limits,
    Member,
    Sample,
    ShardReader,
    ShardWriter,
    write_shard,
)
from unlearnable.pipeline.data.sidecars import publish_sidecars
from unlearnable.pipeline.errors import (
    SampleError,
    ShardError,
    UsageError,
    ViolationError,
)
from unlearnable.pipeline.execution.driver.lease import Lease, read_leases
from unlearnable.pipeline.execution.status import run_status

LIMITS = Limits(max_member_bytes=1 << 16, max_sample_bytes=1 << 17, max_members=8)
FOLDER = Path(tempfile.mkdtemp(prefix="fuzz-"))
NAME = "shard-000"


def tar(data: bytes) -> None:
    """Samples within their limits, under names that stay below a folder; written, read equal."""
    samples = []
    try:
        for sample in ShardReader(io.BytesIO(data), LIMITS):
            held = [len(member.data) for member in sample.members]
            assert len(held) <= LIMITS.max_members
            assert sum(held) <= LIMITS.max_sample_bytes
            for member in sample.members:
                path = Path("/out") / member.name
                assert path.resolve().is_relative_to("/out")
                assert member.name.isprintable() or "\n" not in member.name
            if sample.problem is None:
                samples.append(sample)
    except ShardError:
        return
    path = FOLDER / "written.tar"
    with ShardWriter(path) as writer:
        for sample in samples:
            writer.write(sample)
    with path.open("rb") as file:
        again = list(ShardReader(file, LIMITS))
    assert [sample.members for sample in again] == [sample.members for sample in samples]


def image(data: bytes) -> None:
    """8-bit pixels, no more than allowed."""
    try:
        pixels = decode(data, 1 << 18).values
    except SampleError:
        return
    assert pixels.dtype == np.uint8
    assert pixels.shape[2] == 3
    assert 0 < pixels.shape[0] * pixels.shape[1] <= 1 << 18


def caption(data: bytes) -> None:
    """Captions whose trigger can be put in front, read again and taken out byte for byte."""
    for ext in ("txt", "json"):
        member = Member(f"k.{ext}", ext, data)
        try:
            captions = read_captions(Sample("k", (member,), 0))
            protected = with_trigger((member,), 'a "b\u00e9')
        except SampleError:
            continue
        after = read_captions(Sample("k", protected, 0))
        assert all(text.startswith('a "b\u00e9 ') for text in after)
        assert len(after) == len(captions)
        assert strip_trigger(protected, 'a "b\u00e9') == (member,)


def ledger(data: bytes) -> None:
    """A record of the types that it should have; `status` works on whatever is read."""
    folder = FOLDER / "ledger"
    record = folder / "_ledger" / f"{NAME}.json"
    if not record.parent.exists():
        record.parent.mkdir(parents=True)
        write_plan(str(folder), _plan())
    record.write_bytes(data)
    try:
        read_record(str(folder), NAME)
        found = read_ledger(str(folder))
    except UsageError:
        return
    assert all(isinstance(name, str) for name in found)
    str(run_status(str(folder)))
    run_status(str(folder)).to_json()


def plan(data: bytes) -> None:
    """A plan whose names stay below the output."""
    folder = FOLDER / "plan"
    folder.mkdir(exist_ok=True)
    (folder / "_plan.parquet").write_bytes(data)
    try:
        found = read_plan(str(folder))
    except UsageError:
        return
    assert found is not None
    for shard in found.shards:
        assert (Path("/out") / f"{shard.name}.tar").resolve().parent == Path("/out")
    hash(config_hash(found.config))


def manifest(data: bytes) -> None:
    """Rows of the stated types."""
    path = FOLDER / "manifest.parquet"
    path.write_bytes(data)
    try:
        with open_manifest(str(path)) as rows:
            for row in rows:
                assert isinstance(row.key, str)
                assert isinstance(row.row, int)
    except ViolationError:
        return


def lease(data: bytes) -> None:
    """A lease that can be looked at, or none."""
    folder = FOLDER / "lease"
    (folder / "_lease").mkdir(parents=True, exist_ok=True)
    (folder / "_lease" / "run.json").write_bytes(data)
    for found in read_leases(str(folder)):
        str(found)


def card(data: bytes) -> None:
    """A description of the dataset is compared, whatever it is."""
    folder = FOLDER / "card"
    if not folder.exists():
        folder.mkdir()
        write_plan(str(folder), _plan())
    (folder / "croissant.json").write_bytes(data)
    assert check_card(str(folder), _plan(), {})


def sidecar(data: bytes) -> None:
    """What a crawler left beside a shard is converted or left behind, never trusted."""
    source, output = FOLDER / "sidecar", FOLDER / "sidecar-out"
    if not output.exists():
        source.mkdir()
        output.mkdir()
        write_manifest(source / "manifest", [_row()], {})
    for end in (".parquet", "_stats.json"):
        for other in source.glob(f"{NAME}*"):
            other.unlink()
        (source / f"{NAME}{end}").write_bytes(data)
        try:
            publish_sidecars(
                str(source / f"{NAME}.tar"), str(output), NAME, source / "manifest", ("caption",)
            )
        except ShardError:
            continue
    assert {path.name for path in output.iterdir()} <= {f"{NAME}.parquet", f"{NAME}_stats.json"}


def braces(data: bytes) -> None:
    """A list of bounded length, or a message."""
    try:
        names = expand_braces(data.decode(errors="replace"))
    except UsageError:
        return
    assert 1 <= len(names) <= 1_000_000


def _plan() -> Plan:
    config = {"mem": {"epsilon": 8}, "caption_fields": ["caption"]}
    shards = (ShardInput(NAME, f"/in/{NAME}.tar", 10240, "mtime:1"),)
    return Plan(shards, config, config_hash(config), "0.1.0", {"owner": "x"})


def _lease() -> Lease:
    now = time.time()
    return Lease("r", "c", "h", 1, "m", "1", "held", now, now + 3600)


def _row() -> ManifestRow:
    return ManifestRow("k", NAME, 0, "protected", width=8, height=8, trigger_text="red dog")


def _tar_seed() -> bytes:
    members = (
        Member("a/k.png", "png", encode(np.zeros((8, 8, 3), np.uint8), "png")),
        Member("a/k.txt", "txt", b"a dog"),
        Member("a/k.json", "json", b'{"captions": ["a dog"]}'),
    )
    write_shard(FOLDER / "seed.tar", [Sample("a/k", members, 0)])
    return (FOLDER / "seed.tar").read_bytes()


def _plan_seed() -> bytes:
    (FOLDER / "seed").mkdir(exist_ok=True)
    write_plan(str(FOLDER / "seed"), _plan())
    return (FOLDER / "seed" / "_plan.parquet").read_bytes()


def _manifest_seed() -> bytes:
    write_manifest(FOLDER / "seed.parquet", [_row()], {"shard": NAME})
    return (FOLDER / "seed.parquet").read_bytes()


def _table_seed() -> bytes:
    table = pa.table({"key": ["k"], "caption": ["a dog"], "sha256": ["0"], "width": [8]})
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def seeds() -> dict[str, list[bytes]]:
    """Valid inputs of each target."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (16, 12, 3), np.uint8)
    record = LedgerRecord(NAME, "committed", "c", 3, 3, timings={"started": 1.0, "finished": 2.0})
    return {
        "tar": [_tar_seed()],
        "image": [encode(pixels, name) for name in ("png", "webp", "jpeg")],
        "caption": [b"a dog", '\ufeff{"caption": "a \\u00e9", "captions": ["x", null]}'.encode()],
        "ledger": [json.dumps(asdict(record)).encode()],
        "plan": [_plan_seed()],
        "manifest": [_manifest_seed()],
        "lease": [
            json.dumps(asdict(_lease())).encode(),
        ],
        "card": [b'{"creator": {"name": "x"}, "datePublished": "2026-01-01"}'],
        "sidecar": [_table_seed(), b'{"successes": 1, "count": 1}'],
        "braces": [b"s3://b/{000..012}-{a,b}.tar"],
    }


TARGETS: dict[str, Callable[[bytes], None]] = {
    "tar": tar, "image": image, "caption": caption, "ledger": ledger, "plan": plan,
    "manifest": manifest, "lease": lease, "card": card, "sidecar": sidecar, "braces": braces,
}  # fmt: skip
