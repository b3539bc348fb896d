"""The samples that a fit chooses, and what it says of those that it cannot use."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from unlearnable.pipeline.data.images import encode
from unlearnable.pipeline.data.plan import resolve_input
from unlearnable.pipeline.data.shards import Member, Sample, write_shard
from unlearnable.pipeline.execution import fit_samples
from unlearnable.pipeline.execution.config import FitRunConfig
from unlearnable.pipeline.execution.fit_samples import choose_samples


@pytest.mark.parametrize(
    "members",
    [
        (Member("bad.png", "png", b"no picture"), Member("bad.txt", "txt", b"a dog")),
        (Member("bad.txt", "txt", b"a dog"),),
        (Member("bad.png", "png", encode(np.zeros((9, 9, 3), np.uint8), "png")),),
    ],
    ids=["no picture", "missing picture", "no caption"],
)
def test_what_is_passed_over_is_named_with_shard_and_key(
    members: tuple[Member, ...], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    picture = encode(np.full((32, 32, 3), 90, np.uint8), "png")
    good = (Member("good.png", "png", picture), Member("good.txt", "txt", b"a dog"))
    write_shard(tmp_path / "s.tar", [Sample("good", good, 0), Sample("bad", members, 1)])
    url = str(tmp_path)
    choice = choose_samples(resolve_input(url), FitRunConfig(url, output="unused"), 16, None)
    assert (len(choice.picks), choice.passed_over) == (1, 1)
    assert "s: 1 sample is passed over" in caplog.text
    assert "first bad: " in caplog.text


def test_the_choice_depends_on_the_seed_and_not_on_what_is_read_together(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = str(corpus)
    config = FitRunConfig(url, output="unused")

    def chosen(config: FitRunConfig, wanted: int | None) -> list[tuple[str, int]]:
        found = choose_samples(resolve_input(url), config, 16, wanted)
        return [(pick.shard, pick.row) for pick in found.picks]

    every, some = chosen(config, None), chosen(config, 9)
    assert len(some) == 9
    assert set(some) < set(every)
    assert some != chosen(replace(config, seed=1), 9)
    for together in (1, 7):
        monkeypatch.setattr(fit_samples, "_READ_AHEAD", together)
        assert (chosen(config, None), chosen(config, 9)) == (every, some)
