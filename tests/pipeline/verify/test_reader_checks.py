"""`verify` for someone who has the published folder and nothing else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from runs import kept

from unlearnable.pipeline.data.shards import open_shard, write_shard
from unlearnable.pipeline.errors import UsageError
from unlearnable.pipeline.execution.config import ProtectConfig, PublishConfig
from unlearnable.pipeline.execution.protect import protect
from unlearnable.pipeline.execution.publish import publish
from unlearnable.pipeline.verify.config import VerifyConfig
from unlearnable.pipeline.verify.verify import VerifyReport, verify


@pytest.fixture(scope="module")
def published(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("published") / "out"
    config = ProtectConfig(str(corpus), str(output), method="random", executor="local")
    assert protect(config).exit_code == 0
    publish(PublishConfig(str(output)))
    return output


@pytest.fixture
def copy(published: Path, tmp_path: Path) -> Path:
    """What a stranger downloads: the output without its record."""
    return Path(shutil.copytree(published, tmp_path / "copy"))


def check(copy: Path, **options: object) -> VerifyReport:
    return verify(VerifyConfig(str(copy), **options))  # type: ignore[arg-type]


def test_a_sound_copy_and_what_could_not_be_checked(copy: Path) -> None:
    report = check(copy)
    assert (report.exit_code, report.shards, report.samples) == (0, 4, 80)
    text = str(report)
    assert text.count("not checked: ") == 3
    assert "80 samples in 4 shards checked without the originals: no violation" in text
    assert len(json.loads(report.to_json())["unchecked"]) == 3


def cut(copy: Path) -> None:
    shard = copy / "shard-001.tar"
    shard.write_bytes(shard.read_bytes()[:50_000])


def drop_sample(copy: Path) -> None:
    shard = copy / "shard-001.tar"
    with open_shard(str(shard)) as reader:
        samples = list(reader)
    write_shard(shard, samples[:-1])


def replace_member(ext: str, data: bytes) -> Callable[[Path], None]:
    def change(copy: Path) -> None:
        shard = copy / "shard-001.tar"
        with open_shard(str(shard)) as reader:
            samples = list(reader)
        members = [type(m)(m.name, m.ext, data) if m.ext == ext else m for m in samples[3].members]
        samples[3] = type(samples[3])(samples[3].key, tuple(members), 3)
        write_shard(shard, samples)

    return change


def unlink(name: str) -> Callable[[Path], None]:
    return lambda copy: (copy / name).unlink()


def in_index(**values: object) -> Callable[[Path], None]:
    def change(copy: Path) -> None:
        index = json.loads((copy / "index.json").read_text())
        index["shardlist"][2] |= values
        (copy / "index.json").write_text(json.dumps(index))

    return change


@pytest.mark.parametrize(
    ("damage", "codes"),
    [
        (cut, {"shard_unreadable"}),
        (drop_sample, {"shard_changed"}),
        (replace_member("png", b"no picture"), {"image_unreadable", "shard_changed"}),
        (replace_member("json", b"{"), {"caption_unreadable", "shard_changed"}),
        (unlink("shard-002.tar"), {"shard_unreadable"}),
        (unlink("README.md"), {"card_mismatch"}),
        (unlink("croissant.json"), {"card_mismatch"}),
        (unlink("_SUCCESS"), {"not_finished"}),
        (lambda copy: (copy / "_PUBLISHED").write_text("{}"), {"mark_mismatch"}),
        (in_index(nsamples=19), {"index_mismatch", "mark_mismatch", "not_finished"}),
        (
            in_index(sha256="0" * 64),
            {"shard_changed", "card_mismatch", "mark_mismatch", "not_finished"},
        ),
        (
            lambda copy: shutil.copy(copy / "shard-000.tar", copy / "more.tar"),
            {"unexpected_file"},
        ),
    ],
)
def test_what_a_reader_finds(copy: Path, damage: Callable[[Path], None], codes: set[str]) -> None:
    damage(copy)
    report = check(copy)
    assert set(report.counts) == codes
    assert report.exit_code == 4


def test_some_shards_drawn_at_random(copy: Path) -> None:
    report = check(copy, sample_shards=2, seed=1)
    assert (report.exit_code, report.shards, report.samples) == (0, 2, 40)
    assert report.sample is not None
    cut(copy)
    assert {check(copy, sample_shards=3, seed=seed).exit_code for seed in range(6)} == {0, 4}


def test_other_workers_find_the_same(copy: Path) -> None:
    replace_member("png", b"no picture")(copy)
    alone = check(copy)
    child = check(copy, shard_timeout=600.0)
    assert child.counts == alone.counts
    assert [(v.code, v.key) for v in child.violations] == [
        (v.code, v.key) for v in alone.violations
    ]


@pytest.mark.parametrize("index", [None, "{", "[]", '{"shardlist": [{"url": "../../x.tar"}]}'])
def test_a_folder_that_is_no_copy(copy: Path, index: str | None) -> None:
    (copy / "index.json").unlink()
    if index is not None:
        (copy / "index.json").write_text(index)
    with pytest.raises(UsageError, match="no record beside it, and no list of its shards"):
        check(copy)


def test_what_needs_the_record_asks_for_it(copy: Path, corpus: Path, published: Path) -> None:
    for options in ({"against": str(corpus)}, {"record": str(copy.parent / "nowhere")}):
        with pytest.raises(UsageError, match=r"holds no run: there is no plan .*--record"):
            check(copy, **options)
    record = str(kept(published))
    assert check(copy, against=str(corpus), record=record).unchecked == ()
    assert check(copy, against=str(corpus), record=record).exit_code == 0
