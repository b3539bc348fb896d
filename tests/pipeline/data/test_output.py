"""Ledger, index and card of one small output."""

from __future__ import annotations

import hashlib
import json
import uuid
from pathlib import Path

import pytest

from unlearnable.pipeline.data import storage
from unlearnable.pipeline.data.card import check_card, write_card
from unlearnable.pipeline.data.ledger import (
    LedgerRecord,
    read_ledger,
    read_record,
    record_url,
    uncommitted,
    write_record,
    write_success,
)
from unlearnable.pipeline.data.plan import Plan, ShardInput, config_hash, write_plan
from unlearnable.pipeline.data.statements import Statements
from unlearnable.pipeline.errors import ShardError, UsageError

CONFIG = {"mem": {"method": "mem", "epsilon": 8}, "trigger_words": 3, "image_format": "png"}
INPUTS = (ShardInput("a", "/home/someone/photos/a.tar"), ShardInput("b", "s3://bucket/x/b.tar"))
PLAN = Plan(INPUTS, CONFIG, config_hash(CONFIG), "1.2.3")


def make_record(shard: str, **changes: object) -> LedgerRecord:
    facts: dict[str, object] = {
        "shard": shard,
        "status": "committed",
        "config_hash": PLAN.config_hash,
        "samples": 10,
        "protected": 8,
        "quarantined": 2,
        "shard_sha256": hashlib.sha256(shard.encode()).hexdigest(),
        "shard_size": 10240,
        "manifest_sha256": "d" * 64,
        "manifest_size": 77,
        "input": {"url": "x", "size": 1, "sha256": "e"},
        "timings": {"decode": 0.5},
    }
    return LedgerRecord(**{**facts, **changes})  # type: ignore[arg-type]


@pytest.fixture(params=["local", "memory"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    url = str(tmp_path / "out") if request.param == "local" else f"memory://{uuid.uuid4().hex}"
    write_plan(url, PLAN)
    return url


def test_records(output: str) -> None:
    assert read_ledger(output) == {}
    assert read_record(output, "a") is None
    failed = make_record("a", status="failed", error="truncated")
    write_record(output, failed)
    assert read_record(output, "a") == failed
    write_record(output, make_record("a", attempts=2))
    write_record(output, make_record("b"))
    assert read_record(output, "a") == make_record("a", attempts=2)
    assert list(read_ledger(output)) == ["a", "b"]
    assert storage.list_names(storage.join(output, "_ledger")) == ["a.json", "b.json"]


def test_a_committed_record_hides_a_failed_one(output: str) -> None:
    write_record(output, make_record("a"))
    write_record(output, make_record("a", status="failed", error="late"))
    assert read_ledger(output)["a"].status == "committed"
    assert read_record(output, "a") == make_record("a")


def test_a_record_of_another_shard_than_its_name_says_is_left_out(output: str) -> None:
    for name in "az":
        write_record(output, make_record(name))
    storage.write_bytes(record_url(output, "b"), storage.read_bytes(record_url(output, "z")))
    assert list(read_ledger(output, ["a", "b"])) == ["a"]


def test_a_damaged_record(output: str) -> None:
    for data in (b"", b"[]", b'{"shard": "a"}', b'{"surprise": 1}'):
        storage.write_bytes(record_url(output, "a"), data)
        with pytest.raises(UsageError, match=r"a\.json is not a ledger record .*delete it"):
            read_ledger(output)


def test_success_only_when_the_ledger_covers_the_plan(output: str) -> None:
    write_record(output, make_record("a"))
    for record in (
        None,
        make_record("b", status="failed", error="x"),
        make_record("b", config_hash="other"),
    ):
        if record is not None:
            write_record(output, record)
        assert uncommitted(PLAN, read_ledger(output)) == ["b"]
        with pytest.raises(ShardError, match=r"1 of 2 shards are missing, e\.g\. b"):
            write_success(output, PLAN, read_ledger(output))
        assert not storage.exists(storage.join(output, "_SUCCESS"))
        assert not storage.exists(storage.join(output, "index.json"))
    write_record(output, make_record("b", timings={}))
    write_success(output, PLAN, read_ledger(output))
    assert storage.exists(storage.join(output, "_SUCCESS"))
    index = json.loads(storage.read_bytes(storage.join(output, "index.json")))
    assert index["__kind__"] == "wids-shard-index-v1"
    assert [shard["url"] for shard in index["shardlist"]] == ["a.tar", "b.tar"]
    assert [shard["nsamples"] for shard in index["shardlist"]] == [8, 8]
    assert (index["samples"], index["quarantined"]) == (20, 4)
    data = storage.read_bytes(storage.join(output, "index.json"))
    mark = storage.read_bytes(storage.join(output, "_SUCCESS")).decode()
    assert mark == f"{hashlib.sha256(data).hexdigest()}\n"
    assert PLAN.config_hash not in data.decode()


def card_problems(output: str) -> list[str]:
    return check_card(output, PLAN, read_ledger(output))


ACME = Statements(owner="ACME archive")


def write_output(output: str, statements: Statements = ACME, plan: Plan = PLAN) -> None:
    for name in "ab":
        write_record(output, make_record(name))
    write_card(output, plan, read_ledger(output), statements)


def test_card_describes_the_output(output: str) -> None:
    write_output(output)
    readme = storage.read_bytes(storage.join(output, "README.md")).decode()
    facts = ["ACME archive", "1.2.3", "8 of 255", "`photos`", "s3://bucket/x", "2 of 2"]
    facts += ["| Protected | 16 |", "unlearnable verify"]
    for fact in facts:
        assert fact in readme
    for secret in ("/home/someone", PLAN.config_hash, "seed"):
        assert secret not in readme
    croissant = json.loads(storage.read_bytes(storage.join(output, "croissant.json")))
    assert croissant["conformsTo"] == "http://mlcommons.org/croissant/1.1"
    assert croissant["@type"] == "sc:Dataset"
    objects = {item["@id"]: item for item in croissant["distribution"]}
    assert objects["a.tar"]["sha256"] == make_record("a").shard_sha256
    assert objects["shards"]["@type"] == "cr:FileSet"
    assert set(objects) == {"a.tar", "b.tar", "shards"}
    assert [item["name"] for item in croissant["isBasedOn"]] == ["photos", "s3://bucket/x"]
    assert croissant["citeAs"].startswith("ACME archive (")


def test_check_card(output: str) -> None:
    write_output(output)
    assert card_problems(output) == []
    readme = storage.join(output, "README.md")
    text = storage.read_bytes(readme)
    storage.write_bytes(readme, text.replace(b"8 of 255", b"1 of 255"))
    assert [
        problem for problem in card_problems(output) if "README.md does not describe" in problem
    ]
    storage.remove(readme)
    assert card_problems(output) == [f"{readme} is missing"]
    write_output(output)
    write_record(output, make_record("b", shard_sha256="f" * 64))
    assert card_problems(output) == [
        f"{storage.join(output, 'croissant.json')} does not describe what plan and ledger record"
    ]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"{", "is not JSON"),
        (b"[]", "is not a description"),
        (b'{"name": "\\ud800"}', "UTF-8 cannot hold"),
        (None, "is missing"),
    ],
)
def test_a_damaged_croissant_file(output: str, data: bytes | None, message: str) -> None:
    write_output(output)
    url = storage.join(output, "croissant.json")
    storage.remove(url)
    if data is not None:
        storage.write_bytes(url, data)
    assert [problem for problem in card_problems(output) if message in problem]


def test_writing_the_card_again_changes_nothing(output: str) -> None:
    write_output(output, Statements())
    url = storage.join(output, "croissant.json")
    early = storage.read_bytes(url).decode()
    day = json.loads(early)["datePublished"]
    storage.write_bytes(url, early.replace(day, "2001-02-03").encode())
    write_output(output, Statements())
    assert json.loads(storage.read_bytes(url))["datePublished"] == "2001-02-03"
    assert card_problems(output) == []
