"""The worker: one shard in, one committed shard out; bad samples and bad shards stay alone."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from unlearnable.pipeline.data.captions import read_captions
from unlearnable.pipeline.data.images import decode, encode, image_member
from unlearnable.pipeline.data.ledger import LedgerRecord, read_record
from unlearnable.pipeline.data.manifest import ManifestRow, manifest_url, read_manifest
from unlearnable.pipeline.data.plan import resolve_input
from unlearnable.pipeline.data.shards import Member, Sample, open_shard, write_shard
from unlearnable.pipeline.execution.config import ProtectConfig
from unlearnable.pipeline.execution.driver.schedule import ShardTask
from unlearnable.pipeline.execution.protect import make_spec
from unlearnable.pipeline.execution.spec import WorkerSetup
from unlearnable.pipeline.execution.worker.shard_worker import make_worker
from unlearnable.pipeline.method import models
from unlearnable.pipeline.method.models import get_tokenizer
from unlearnable.pipeline.method.vocabulary import leading_ids

Run = Callable[..., tuple[LedgerRecord, list[ManifestRow], list[Sample]]]


def samples_of(url: Path | str) -> list[Sample]:
    with open_shard(str(url)) as reader:
        return list(reader)


@pytest.fixture
def run(surrogate: str, tmp_path: Path) -> Run:
    """Protect the one shard of a folder; return record, manifest and published samples."""

    def protect_one(
        source: Path, **options: object
    ) -> tuple[LedgerRecord, list[ManifestRow], list[Sample]]:
        output = str(tmp_path / "out")
        settings = {"surrogate": surrogate, "batch_size": 8, "steps": 1} | options
        config = ProtectConfig(str(source), output, **settings)  # type: ignore[arg-type]
        setup = WorkerSetup(make_spec(config), config.surrogate, io_threads=2, device="cpu")
        (shard,) = resolve_input(str(source))
        record = make_worker(setup).run(ShardTask(shard, output, output))
        if record.status == "failed":
            return record, [], []
        rows, _ = read_manifest(manifest_url(output, shard.name))
        return record, rows, samples_of(f"{output}/{shard.name}.tar")

    return protect_one


def test_a_shard_is_published_with_keys_order_and_other_members_kept(
    run: Run, corpus: Path, tmp_path: Path
) -> None:
    source = corpus / "shard-000.tar"
    record, rows, published = run(source)
    originals = samples_of(source)
    assert [s.key for s in published] == [s.key for s in originals]
    assert [[m.name for m in s.members] for s in published] == [
        [m.name for m in s.members] for s in originals
    ]
    assert (record.status, record.samples, record.protected) == ("committed", 20, 20)
    shard = tmp_path / "out" / "shard-000.tar"
    assert record.shard_sha256 == hashlib.sha256(shard.read_bytes()).hexdigest()
    assert record.shard_size == shard.stat().st_size
    assert record.input["sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert read_record(str(tmp_path / "out"), "shard-000") == record
    # 20 samples at 8 a batch: the short last one joins the second.
    assert [row.batch for row in rows] == [0] * 8 + [1] * 12
    assert record.passes["image_backward"] > 0
    assert set(record.queues) == {"decoded", "optimised"}
    assert 0 <= record.timings["wait_input"] <= record.timings["seconds"]
    _, metadata = read_manifest(manifest_url(str(tmp_path / "out"), "shard-000"))
    counted = json.loads(metadata["passes"])
    assert {kind: count / 20 for kind, count in counted.items()} | {"again": 0} == record.passes


def test_a_worker_builds_its_models_once_for_all_shards(
    corpus: Path, surrogate: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = str(tmp_path / "out")
    config = ProtectConfig(str(corpus), output, surrogate=surrogate)
    worker = make_worker(WorkerSetup(make_spec(config), surrogate, io_threads=2, device="cpu"))

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a model is built on a shard's time")

    monkeypatch.setattr(models, "build_model", refuse)
    monkeypatch.setattr("unlearnable.pipeline.method.surrogate.build_model", refuse)
    shards = resolve_input(str(corpus))[:2]
    records = [worker.run(ShardTask(shard, output, output)) for shard in shards]
    assert [record.status for record in records] == ["committed"] * 2
    assert all(record.timings["cpu"] >= record.timings["optimise_cpu"] for record in records)


def test_images_change_within_epsilon_and_captions_carry_the_manifests_trigger(
    run: Run, corpus: Path
) -> None:
    _, rows, published = run(corpus / "shard-000.tar", epsilon=5)
    tokenizer = get_tokenizer("tiny", 77)
    for row, before, after in zip(
        rows, samples_of(corpus / "shard-000.tar"), published, strict=True
    ):
        old = decode(image_member(before).data).pixels.astype(int)
        new = decode(image_member(after).data).pixels.astype(int)
        assert row.linf == np.abs(new - old).max()
        assert 0 < row.linf <= 5
        assert row.output_sha256 == hashlib.sha256(image_member(after).data).hexdigest()
        assert row.trigger_text
        assert row.trigger_tokens
        assert len(row.trigger_tokens) == 3
        for old_text, new_text in zip(read_captions(before), read_captions(after), strict=True):
            assert new_text == f"{row.trigger_text} {old_text}"
            assert leading_ids(tokenizer, new_text, 3) == row.trigger_tokens


def bad_samples() -> dict[str, tuple[Member, ...]]:
    picture = encode(np.full((40, 40, 3), 90, np.uint8), "png")
    large = encode(np.zeros((300, 300, 3), np.uint8), "png")
    return {
        "missing_image": (Member("k.txt", "txt", b"a dog"),),
        "missing_caption": (Member("k.png", "png", picture),),
        "image_undecodable": (
            Member("k.png", "png", b"no image"),
            Member("k.txt", "txt", b"a dog"),
        ),
        "image_too_large": (Member("k.png", "png", large), Member("k.txt", "txt", b"a dog")),
        "empty_caption": (Member("k.png", "png", picture), Member("k.txt", "txt", b"  \n")),
        "caption_not_utf8": (Member("k.png", "png", picture), Member("k.txt", "txt", b"\xff\xfe")),
        "json_invalid": (Member("k.png", "png", picture), Member("k.json", "json", b"{")),
        "json_field_missing": (Member("k.png", "png", picture), Member("k.json", "json", b"{}")),
    }


def named(members: tuple[Member, ...], key: str) -> tuple[Member, ...]:
    return tuple(replace(m, name=m.name.replace("k.", f"{key}.", 1)) for m in members)


def test_bad_samples_are_quarantined_with_a_reason_and_not_published(
    run: Run, corpus: Path, tmp_path: Path
) -> None:
    mixed: list[Sample] = []
    good = samples_of(corpus / "shard-001.tar")
    for sample, (reason, members) in zip(good, bad_samples().items(), strict=False):
        mixed += [sample, Sample(reason, named(members, reason), 0)]
    (tmp_path / "in").mkdir()
    write_shard(tmp_path / "in" / "mixed.tar", mixed)
    record, rows, published = run(tmp_path / "in" / "mixed.tar", max_pixels=80 * 80)
    assert [row.key for row in rows] == [sample.key for sample in mixed]
    assert [row.row for row in rows] == list(range(len(mixed)))
    bad = {row.key: row.reason for row in rows if row.status == "quarantined"}
    assert bad == {reason: reason for reason in bad_samples()}
    assert [s.key for s in published] == [row.key for row in rows if row.status == "protected"]
    assert (record.protected, record.quarantined) == (8, 8)
    assert all(row.output_sha256 is None for row in rows if row.status == "quarantined")


def test_a_shard_of_bad_samples_only_is_published_empty(run: Run, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    samples = [Sample(r, named(m, r), 0) for r, m in bad_samples().items() if "large" not in r]
    write_shard(tmp_path / "in" / "bad.tar", samples)
    record, rows, published = run(tmp_path / "in" / "bad.tar")
    assert (record.status, record.quarantined, len(rows), published) == ("committed", 7, 7, [])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[:5000], "truncated"),
        (lambda data: data[: data.rindex(b"ustar") - 257], "end marker"),
        (lambda _: b"<html>no such page</html>" * 100, "not a tar"),
    ],
    ids=["cut inside", "cut between members", "no tar"],
)
def test_a_damaged_shard_fails_and_leaves_nothing(
    run: Run, corpus: Path, tmp_path: Path, damage: Callable[[bytes], bytes], message: str
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "s.tar").write_bytes(damage((corpus / "shard-000.tar").read_bytes()))
    record, _, _ = run(tmp_path / "in" / "s.tar")
    assert record.status == "failed"
    assert message in (record.error or "")
    assert not [path for path in tmp_path.glob("out/**/*") if path.is_file()]


def test_the_bytes_do_not_depend_on_the_number_of_io_threads(
    surrogate: str, corpus: Path, tmp_path: Path
) -> None:
    source = tmp_path / "in"
    source.mkdir()
    shutil.copy(corpus / "shard-002.tar", source)
    (shard,) = resolve_input(str(source))
    hashes = set()
    for threads in (1, 4):
        output = str(tmp_path / f"out{threads}")
        config = ProtectConfig(str(source), output, surrogate=surrogate, batch_size=8, steps=1)
        setup = WorkerSetup(make_spec(config), surrogate, io_threads=threads, device="cpu")
        record = make_worker(setup).run(ShardTask(shard, output, output))
        hashes.add((record.shard_sha256, record.manifest_sha256))
    assert len(hashes) == 1


@pytest.mark.parametrize(
    ("image_format", "ext"), [("webp", "webp"), ("same", "png"), ("jpeg", "jpg")]
)
def test_images_are_written_in_the_format_asked_for(
    run: Run, corpus: Path, image_format: str, ext: str
) -> None:
    record, rows, published = run(corpus / "shard-003.tar", image_format=image_format)
    assert record.protected == 20
    assert {image_member(sample).ext for sample in published} == {ext}
    assert {row.image_ext for row in rows} == {ext}
    if image_format != "jpeg":
        assert all(row.linf is not None and row.linf <= 8 for row in rows)


def test_random_noise_needs_no_surrogate_and_leaves_captions_alone(run: Run, corpus: Path) -> None:
    source = corpus / "shard-000.tar"
    record, rows, published = run(source, surrogate=None, method="random")
    assert record.protected == 20
    assert {row.trigger_text for row in rows} == {""}
    assert [read_captions(s) for s in published] == [read_captions(s) for s in samples_of(source)]
    assert {row.linf for row in rows} == {8}
