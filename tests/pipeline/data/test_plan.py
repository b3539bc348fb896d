from __future__ import annotations

import os
import uuid
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from manifests import write_manifest

from unlearnable.pipeline.data import storage
from unlearnable.pipeline.data.expand import expand, expand_braces
from unlearnable.pipeline.data.plan import (
    PLAN_NAME,
    Plan,
    config_hash,
    read_plan,
    resolve_input,
    write_plan,
)
from unlearnable.pipeline.errors import UsageError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("in/b.tar", "in/a.tar", "in/notes.txt", "in/.a.tar.tmp", "in/.c.tar", "two/a.tar"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path


def test_every_way_to_name_shards(folder: Path) -> None:
    both = [str(folder / "in/a.tar"), str(folder / "in/b.tar")]
    assert expand(str(folder / "in")) == both
    assert expand(f"file://{folder}/in/") == both
    assert expand(str(folder / "in/*.tar")) == both
    assert expand(str(folder / "in/*")) == both
    assert expand(str(folder / "in/{b,a}.tar")) == both
    assert expand(str(folder / "in/a.tar")) == both[:1]
    assert expand(str(folder / "in/notes.txt")) == [str(folder / "in/notes.txt")]
    assert expand(str(folder / "{in,two}/a.tar")) == [both[0], str(folder / "two/a.tar")]
    assert expand("http://host/a.tar?x=1") == ["http://host/a.tar?x=1"]


def test_relative_names_become_absolute(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert expand("in") == [str(folder / "in/a.tar"), str(folder / "in/b.tar")]


def test_memory_urls() -> None:
    base = f"memory://{uuid.uuid4().hex}"
    for name in ("a.tar", "b.tar", "c.json"):
        storage.write_bytes(f"{base}/{name}", b"x")
    assert [storage.base_name(url) for url in expand(base)] == ["a.tar", "b.tar"]
    assert [shard.name for shard in resolve_input(f"{base}/*.tar")] == ["a", "b"]


def test_a_name_with_glob_characters_is_that_file(tmp_path: Path) -> None:
    (tmp_path / "a[1].tar").write_bytes(b"")
    assert expand(str(tmp_path / "a[1].tar")) == [str(tmp_path / "a[1].tar")]


@given(st.integers(0, 3000), st.integers(0, 50), st.integers(1, 6))
def test_ranges_keep_their_width(first: int, more: int, width: int) -> None:
    names = expand_braces(f"x-{{{first:0{width}d}..{first + more:0{width}d}}}.tar")
    assert names == [f"x-{number:0{width}d}.tar" for number in range(first, first + more + 1)]


def test_lists_combine() -> None:
    assert expand_braces("{a,b}-{x,y}") == ["a-x", "a-y", "b-x", "b-y"]
    assert expand_braces("{9..11}") == ["9", "10", "11"]


@pytest.mark.parametrize("text", ["{a", "a}", "{a}", "{}", "{5..1}", "{0..99999999999}", "{a..c}"])
def test_malformed_braces(text: str) -> None:
    with pytest.raises(UsageError, match=r"brace|range|upwards|more than"):
        expand_braces(text)


@pytest.mark.parametrize("name", ["nowhere", "nowhere/*.tar", "nowhere/a.tar", "in/*.zip"])
def test_nothing_found(folder: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"does not exist|no \.tar shards match"):
        resolve_input(str(folder / name))


def test_shards_below_are_pointed_out(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"some in .*: use .*/\*\*"):
        resolve_input(str(folder))


def test_a_folder_named_like_a_shard_is_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "x.tar").mkdir()
    (tmp_path / "x.tar" / "y.tar").write_bytes(b"")
    (tmp_path / ".hidden.tar").mkdir()
    (tmp_path / "other").mkdir()
    assert expand(str(tmp_path)) == [str(tmp_path / "x.tar")]
    base = f"memory://{uuid.uuid4().hex}"
    for name in ("a.tar", "x.tar/y", "other/z"):
        storage.write_bytes(f"{base}/{name}", b"x")
    assert [storage.base_name(url) for url in expand(base)] == ["a.tar", "x.tar"]


def test_a_missing_shard_of_a_list_is_kept(folder: Path) -> None:
    shards = resolve_input(str(folder / "in/{a,b,z}.tar"))
    assert [(shard.name, shard.size) for shard in shards] == [("a", 8), ("b", 8), ("z", None)]
    with pytest.raises(UsageError, match="none of the 2 shards"):
        resolve_input(str(folder / "in/{y,z}.tar"))


def test_two_shards_of_one_name(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"two shards are named a: .*in/a\.tar and .*two/a\.tar"):
        resolve_input(str(folder / "{in,two}"))


def test_names_the_ledger_cannot_hold(tmp_path: Path) -> None:
    (tmp_path / "a.failed.tar").write_bytes(b"")
    with pytest.raises(UsageError, match="rename it"):
        resolve_input(str(tmp_path))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_folder(folder: Path) -> None:
    (folder / "in").chmod(0)
    try:
        with pytest.raises(UsageError, match="permission denied"):
            resolve_input(str(folder / "in"))
    finally:
        (folder / "in").chmod(0o755)


def make_plan(folder: Path) -> Plan:
    config = {"epsilon": 8, "mem": {"steps": 3}, "owner": "é"}
    return Plan(tuple(resolve_input(str(folder / "in"))), config, config_hash(config), "1.2.3")


def test_plan_round_trip_and_equal_bytes(folder: Path, tmp_path: Path) -> None:
    plan = make_plan(folder)
    assert read_plan(str(tmp_path / "out")) is None
    write_plan(str(tmp_path / "out"), plan)
    first = (tmp_path / "out" / PLAN_NAME).read_bytes()
    write_plan(str(tmp_path / "out"), plan)
    assert (tmp_path / "out" / PLAN_NAME).read_bytes() == first
    assert read_plan(str(tmp_path / "out")) == plan


def test_config_hash_ignores_key_order() -> None:
    assert config_hash({"a": 1, "b": 2}) == config_hash({"b": 2, "a": 1}) != config_hash({"a": 1})


def test_a_damaged_plan(folder: Path, tmp_path: Path) -> None:
    write_plan(str(tmp_path), make_plan(folder))
    data = (tmp_path / PLAN_NAME).read_bytes()
    write_manifest(tmp_path / "manifest", [], {})
    no_plan = (tmp_path / "manifest").read_bytes()
    for damaged in (b"", b"nonsense", data[:-20], no_plan):
        (tmp_path / PLAN_NAME).write_bytes(damaged)
        with pytest.raises(UsageError, match="not a readable plan"):
            read_plan(str(tmp_path))
