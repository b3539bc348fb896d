"""Captions of a copy: honest, whole, and told from originals when they come back as input."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from runs import kept

from unlearnable.pipeline.data.captions import read_captions
from unlearnable.pipeline.data.ledger import read_record
from unlearnable.pipeline.data.shards import Member, Sample, open_shard, write_shard
from unlearnable.pipeline.errors import UsageError
from unlearnable.pipeline.execution.config import FitRunConfig, ProtectConfig, RestoreConfig
from unlearnable.pipeline.execution.fit import fit
from unlearnable.pipeline.execution.protect import protect
from unlearnable.pipeline.execution.restore import restore
from unlearnable.pipeline.method.vocabulary import content_words, reference_words
from unlearnable.pipeline.verify.config import VerifyConfig
from unlearnable.pipeline.verify.verify import verify


def samples(shard: Path) -> Iterator[Sample]:
    with open_shard(str(shard)) as reader:
        yield from reader


def words(shard: Path) -> Counter[str]:
    """Count captions by content word."""
    captions = (text for sample in samples(shard) for text in read_captions(sample))
    return Counter(word for text in captions for word in content_words(text))


def with_repeats(sample: Sample) -> Sample:
    """Give a sample other texts that repeat its first caption, and one that does not."""
    (caption, _) = read_captions(sample)
    facts = json.dumps({"captions": [caption], "alt": caption, "note": f"not {caption}"})
    more = (
        Member(f"{sample.key}.caption", "caption", caption.encode()),
        Member(f"{sample.key}.long.txt", "long.txt", f"{caption}\nno caption\n".encode()),
        Member(f"{sample.key}.json", "json", facts.encode()),
    )
    kept_members = [member for member in sample.members if member.ext != "json"]
    return replace(sample, members=(*kept_members, *more))


@pytest.fixture(scope="module")
def originals(build_shards: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = build_shards(tmp_path_factory.mktemp("again") / "input", shards=1, samples=6)
    shard = folder / "shard-000.tar"
    write_shard(shard, [with_repeats(sample) for sample in samples(shard)])
    return folder


@pytest.fixture(scope="module")
def copy(originals: Path, surrogate: str) -> ProtectConfig:
    config = ProtectConfig(
        str(originals), str(originals.parent / "copy"), surrogate=surrogate, executor="local"
    )
    assert protect(config).exit_code == 0
    return config


def test_captions_gain_reference_words_alone(originals: Path, copy: ProtectConfig) -> None:
    before = words(originals / "shard-000.tar")
    after = words(Path(copy.output) / "shard-000.tar")
    added = after - before
    assert set(added) <= set().union(*reference_words())
    assert added.total() == 3 * 6
    assert {word: after[word] for word in before} == before


def test_text_that_repeats_a_caption_is_counted_and_held_to(
    originals: Path, copy: ProtectConfig, tmp_path: Path
) -> None:
    record = read_record(str(kept(Path(copy.output))), "shard-000")
    assert record is not None
    assert record.repeats == 3 * 6
    for sample in samples(Path(copy.output) / "shard-000.tar"):
        (caption,) = read_captions(sample)
        found = {member.ext: member.data.decode() for member in sample.members[1:]}
        assert found["caption"] == caption
        assert found["long.txt"] == f"{caption}\nno caption\n"
        assert json.loads(found["json"])["alt"] == caption
    assert verify(VerifyConfig(copy.output, against=str(originals))).exit_code == 0
    restore(RestoreConfig(copy.output, str(tmp_path / "back")))
    pairs = zip(
        samples(tmp_path / "back" / "shard-000.tar"),
        samples(originals / "shard-000.tar"),
        strict=True,
    )
    for restored, original in pairs:
        assert restored.members[1:] == original.members[1:]


@pytest.mark.parametrize("ext", ["caption", "long.txt", "json"])
def test_verify_finds_a_repeat_without_its_trigger(
    ext: str, originals: Path, copy: ProtectConfig, tmp_path: Path
) -> None:
    shutil.copytree(copy.output, tmp_path / "copy")
    shutil.copytree(kept(Path(copy.output)), tmp_path / "copy-record")
    shard = tmp_path / "copy" / "shard-000.tar"
    first, *others = samples(shard)
    (caption,) = read_captions(first)
    (bare,) = read_captions(next(samples(originals / "shard-000.tar")))

    def doctored(member: Member) -> Member:
        if member.ext != ext:
            return member
        # In JSON the caption itself comes first and keeps its trigger.
        head, _, tail = member.data.decode().rpartition(caption)
        return replace(member, data=f"{head}{bare}{tail}".encode())

    members = tuple(map(doctored, first.members))
    write_shard(shard, [replace(first, members=members), *others])
    for against in (None, str(originals)):
        report = verify(VerifyConfig(str(tmp_path / "copy"), against=against))
        assert {v.key for v in report.violations if v.code == "trigger_missing"} == {first.key}


def moved(copy: ProtectConfig, folder: Path, *names: str) -> Path:
    folder.mkdir()
    for name in ("shard-000.tar", *names):
        shutil.copy(Path(copy.output) / name, folder)
    return folder


SIGNS = {
    "README.md": "its README.md says so",
    "croissant.json": "its croissant.json says so",
    "index.json": "its index.json says so",
    "": "captions of shard-000 start with trigger words",
}


@pytest.mark.parametrize("form", ["a shard of many", "samples among others", "as JSON alone"])
def test_protected_samples_among_originals_are_found(
    form: str, originals: Path, copy: ProtectConfig, tmp_path: Path
) -> None:
    own = list(samples(originals / "shard-000.tar"))
    protected = list(samples(Path(copy.output) / "shard-000.tar"))
    (tmp_path / "in").mkdir()
    for number in range(40 if form == "a shard of many" else 1):
        write_shard(tmp_path / "in" / f"{number:02d}.tar", own)
    if form == "a shard of many":
        write_shard(tmp_path / "in" / "zz.tar", protected)
    elif form == "as JSON alone":
        write_shard(tmp_path / "in" / "00.tar", map(as_json, protected))
    else:
        renamed = [replace(sample, key=f"x{sample.key}", members=tuple(
            replace(member, name=f"x{member.name}") for member in sample.members
        )) for sample in protected[:2]]  # fmt: skip
        write_shard(tmp_path / "in" / "00.tar", [*own, *renamed])
    config = replace(copy, input=str(tmp_path / "in"), output=str(tmp_path / "out"))
    with pytest.raises(UsageError, match=r"captions of (zz|00) start with trigger words"):
        protect(config)


def as_json(sample: Sample) -> Sample:
    facts = json.dumps({"caption": read_captions(sample)[0]}).encode()
    return replace(sample, members=(sample.members[0], Member(f"{sample.key}.json", "json", facts)))


@pytest.mark.parametrize("name", SIGNS)
def test_a_protected_copy_is_refused_as_input(
    name: str, copy: ProtectConfig, tmp_path: Path
) -> None:
    folder = moved(copy, tmp_path / "moved", *filter(None, [name]))
    config = replace(copy, input=str(folder), output=str(tmp_path / "out"), method="random")
    message = rf"moved is a protected copy already \({SIGNS[name]}\).* --again"
    with pytest.raises(UsageError, match=message):
        protect(config)
    settings = {"rounds": 1, "steps_per_round": 0, "batch_size": 4, "image_size": 32}
    asked = FitRunConfig(str(folder), output=str(tmp_path / "fit"), **settings)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=message):
        fit(asked)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["moved"]
    if not name:
        assert protect(replace(config, again=True)).exit_code == 0
        # The run that was begun needs no leave to go on.
        assert protect(config).exit_code == 0
        assert fit(replace(asked, again=True)).samples == 6
