"""Lists of shards as columns behave as the tuples that they stand for."""

from __future__ import annotations

import pickle

from unlearnable.pipeline.data.shard_list import ShardInput, ShardList

SHARDS = tuple(
    ShardInput(f"s{n}", f"/in/s{n}.tar", None if n % 3 else n, f"e{n}" if n % 2 else None)
    for n in range(10_000)
)


def test_a_list_holds_what_it_was_made_of() -> None:
    found = ShardList.of(iter(SHARDS))
    assert (len(found), tuple(found)) == (len(SHARDS), SHARDS)
    assert found == SHARDS
    assert found != list(SHARDS[1:])
    assert [found[n] for n in (0, 4095, 4096, -1)] == [SHARDS[n] for n in (0, 4095, 4096, -1)]
    for part in (slice(3, None, 4), slice(None, None, -1), slice(5, 5), slice(9990, 20_000)):
        assert found[part] == SHARDS[part]
    assert pickle.loads(pickle.dumps(found)) == SHARDS  # noqa: S301 - of this test's own
    assert not ShardList.of([])


def test_a_list_takes_few_bytes_a_shard() -> None:
    assert ShardList.of(SHARDS).table.nbytes / len(SHARDS) < 60
