import hashlib
import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from manifests import write_manifest
from runs import copy_both, kept, place

from unlearnable.pipeline.data.captions import strip_trigger
from unlearnable.pipeline.data.card import write_card
from unlearnable.pipeline.data.images import decode, encode
from unlearnable.pipeline.data.ledger import (
    LedgerRecord,
    read_ledger,
    read_record,
    write_record,
    write_success,
)
from unlearnable.pipeline.data.manifest import (
    ManifestRow,
    manifest_url,
    read_manifest,
)
from unlearnable.pipeline.data.plan import read_plan
from unlearnable.pipeline.data.shards import Member, Sample, open_shard, write_shard
from unlearnable.pipeline.data.statements import Statements
from unlearnable.pipeline.errors import UsageError
from unlearnable.pipeline.execution.config import ProtectConfig
from unlearnable.pipeline.execution.protect import protect
from unlearnable.pipeline.method.perceptual import bound_map
from unlearnable.pipeline.method.vocabulary import leading_ids
from unlearnable.pipeline.verify.config import VerifyConfig
from unlearnable.pipeline.verify.findings import CODES
from unlearnable.pipeline.verify.shard_checks import _join
from unlearnable.pipeline.verify.verify import VerifyReport, verify

SHARD = "shard-000"


@dataclass
class Copy:
    """A protected copy that a test may damage, and its originals."""

    folder: Path
    originals: Path

    @property
    def record(self) -> str:
        return str(kept(self.folder))

    @property
    def tar(self) -> Path:
        return self.folder / f"{SHARD}.tar"

    def samples(self) -> list[Sample]:
        with open_shard(str(self.tar)) as reader:
            return list(reader)

    def rows(self) -> tuple[list[ManifestRow], dict[str, str]]:
        return read_manifest(manifest_url(self.record, SHARD))

    def check(self, *, against: bool = False) -> VerifyReport:
        originals = str(self.originals) if against else None
        return verify(VerifyConfig(str(self.folder), against=originals))

    def write(
        self,
        samples: Iterable[Sample] | None = None,
        rows: list[ManifestRow] | None = None,
        metadata: dict[str, str] | None = None,
        *,
        cover: bool = True,
        **fields: object,
    ) -> None:
        """Write parts of the shard anew; ``cover`` makes hashes, counts, index and card fit."""
        output = str(self.folder)
        if samples is not None:
            write_shard(self.tar, samples)
        if rows is not None or metadata is not None:
            old_rows, old_metadata = self.rows()
            url = manifest_url(self.record, SHARD)
            write_manifest(url, rows or old_rows, metadata or old_metadata)
        if cover:
            record = read_record(self.record, SHARD)
            plan = read_plan(self.record)
            assert record is not None
            assert plan is not None
            write_record(self.record, replace(self._covered(record), **fields))
            ledger = read_ledger(self.record)
            write_success(output, plan, ledger)
            write_card(output, plan, ledger, Statements())

    def _covered(self, record: LedgerRecord) -> LedgerRecord:
        shard = self.tar.read_bytes()
        manifest = Path(manifest_url(self.record, SHARD)).read_bytes()
        statuses = [row.status for row in self.rows()[0]]
        return replace(
            record,
            samples=len(statuses),
            protected=statuses.count("protected"),
            quarantined=statuses.count("quarantined"),
            shard_sha256=hashlib.sha256(shard).hexdigest(),
            shard_size=len(shard),
            manifest_sha256=hashlib.sha256(manifest).hexdigest(),
            manifest_size=len(manifest),
        )


def run_protect(source: Path, output: Path, surrogate: str, epsilon: int = 8) -> Path:
    summary = protect(
        ProtectConfig(
            str(source),
            str(output),
            surrogate=surrogate,
            executor="local",
            epsilon=epsilon,
            batch_size=16,
            max_quarantined=1.0,
        )
    )
    assert summary.exit_code == 0
    return output


@pytest.fixture(scope="module")
def originals(build_shards: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shards of ten samples; one of the first shard cannot be protected."""
    folder = build_shards(
        tmp_path_factory.mktemp("verify") / "input", shards=2, samples=10, size=32
    )
    path = folder / f"{SHARD}.tar"
    with open_shard(str(path)) as reader:
        samples = list(reader)
    picture = samples[4].members[0]
    members = (replace(picture, data=b"no picture"), *samples[4].members[1:])
    samples[4] = replace(samples[4], members=members)
    write_shard(path, samples)
    return folder


@pytest.fixture(scope="module")
def protected(originals: Path, surrogate: str) -> Path:
    return run_protect(originals, originals.parent / "protected", surrogate)


@pytest.fixture
def copy(protected: Path, originals: Path, tmp_path: Path) -> Copy:
    return Copy(copy_both(protected, tmp_path / "copy"), originals)


def image(sample: Sample) -> Member:
    return next(member for member in sample.members if member.ext == "png")


def swap(sample: Sample, member: Member) -> Sample:
    """Replace the member of the same extension."""
    members = tuple(member if old.ext == member.ext else old for old in sample.members)
    return replace(sample, members=members)


def with_far_pixel(sample: Sample) -> Sample:
    pixels = decode(image(sample).data).pixels.copy()
    pixels[3, 5, 1] ^= 128
    return swap(sample, replace(image(sample), data=encode(pixels, "png")))


def changed(rows: list[ManifestRow], row: ManifestRow) -> list[ManifestRow]:
    return [row if old.key == row.key else old for old in rows]


def digest(member: Member) -> str:
    return hashlib.sha256(member.data).hexdigest()


def codes(report: VerifyReport) -> set[str]:
    assert report.exit_code == 4
    assert set(report.counts) <= set(CODES)
    return set(report.counts)


@pytest.mark.parametrize("against", [False, True])
def test_an_untouched_copy_is_clean(copy: Copy, against: bool) -> None:
    report = copy.check(against=against)
    assert report.violations == []
    assert report.exit_code == 0
    assert (report.shards, report.samples) == (2, 19)
    assert "no violation" in str(report)


def test_a_copy_covered_after_no_change_is_clean(copy: Copy) -> None:
    """What the tests below use to forge hashes leaves no trace of its own."""
    rows, metadata = copy.rows()
    copy.write(copy.samples(), rows, metadata)
    assert copy.check(against=True).violations == []


def test_one_pixel_beyond_epsilon(copy: Copy) -> None:
    samples = copy.samples()
    samples[2] = with_far_pixel(samples[2])
    copy.write(samples, cover=False)
    assert {"image_changed", "shard_changed"} <= codes(copy.check())
    report = copy.check(against=True)
    assert "budget_exceeded" in codes(report)
    broken = next(v for v in report.violations if v.code == "budget_exceeded")
    assert (broken.shard, broken.key) == (SHARD, samples[2].key)


def test_one_pixel_beyond_epsilon_with_all_hashes_forged(copy: Copy) -> None:
    samples, (rows, _) = copy.samples(), copy.rows()
    samples[2] = with_far_pixel(samples[2])
    row = next(row for row in rows if row.key == samples[2].key)
    forged = changed(rows, replace(row, output_sha256=digest(image(samples[2]))))
    copy.write(samples, forged)
    assert copy.check().violations == []  # nothing published contradicts itself
    assert codes(copy.check(against=True)) == {"budget_exceeded", "measure_mismatch"}


def test_one_pixel_inside_epsilon_beyond_the_bound_map(copy: Copy) -> None:
    samples, (rows, _) = copy.samples(), copy.rows()
    with open_shard(str(copy.originals / f"{SHARD}.tar")) as reader:
        source = next(sample for sample in reader if sample.key == samples[2].key)
    clean = decode(image(source).data).pixels
    planes = torch.from_numpy(clean.transpose(2, 0, 1).copy())
    bound = bound_map(planes[None], 8, float(read_plan(copy.record).config["floor"]))[0]
    channel, row, column = np.unravel_index(int(bound.argmin()), bound.shape)
    pixels = decode(image(samples[2]).data).pixels.copy()
    level = int(clean[row, column, channel])
    pixels[row, column, channel] = level + (8 if level < 128 else -8)
    samples[2] = swap(samples[2], replace(image(samples[2]), data=encode(pixels, "png")))
    own = next(row for row in rows if row.key == samples[2].key)
    forged = changed(rows, replace(own, output_sha256=digest(image(samples[2]))))
    copy.write(samples, forged)
    assert copy.check().violations == []
    report = copy.check(against=True)
    assert "budget_exceeded" in codes(report)
    assert "1 values exceed the bound map" in str(report)


def test_one_pixel_changed_inside_epsilon_with_all_hashes_forged(copy: Copy) -> None:
    samples, (rows, _) = copy.samples(), copy.rows()
    with open_shard(str(copy.originals / f"{SHARD}.tar")) as reader:
        original = next(s for s in reader if s.key == samples[2].key)
    pixels = decode(image(samples[2]).data).pixels.copy()
    pixels[0, 0] = decode(image(original).data).pixels[0, 0]
    samples[2] = swap(samples[2], replace(image(samples[2]), data=encode(pixels, "png")))
    row = next(row for row in rows if row.key == samples[2].key)
    copy.write(samples, changed(rows, replace(row, output_sha256=digest(image(samples[2])))))
    assert codes(copy.check(against=True)) == {"measure_mismatch"}


def test_one_caption_without_its_trigger(copy: Copy) -> None:
    samples, (rows, _) = copy.samples(), copy.rows()
    row = next(row for row in rows if row.key == samples[5].key)
    text = next(m for m in samples[5].members if m.ext == "txt")
    bare = strip_trigger((text,), row.trigger_text or "")[0]
    samples[5] = swap(samples[5], bare)
    copy.write(samples)
    report = copy.check()
    assert codes(report) == {"trigger_missing"}
    assert report.violations[0].key == samples[5].key
    assert codes(copy.check(against=True)) == {"trigger_missing", "member_changed"}


def test_a_trigger_whose_tokens_are_not_the_rows(copy: Copy) -> None:
    rows, _ = copy.rows()
    row = rows[0]
    tokens = list(row.trigger_tokens or [])
    copy.write(rows=changed(rows, replace(row, trigger_tokens=[tokens[0] + 1, *tokens[1:]])))
    report = copy.check()
    assert codes(report) == {"trigger_ids"}
    assert report.counts["trigger_ids"] == 2  # both captions of the sample


def test_a_caption_with_a_trigger_that_is_not_its_own(copy: Copy) -> None:
    samples, (rows, _) = copy.samples(), copy.rows()
    row = next(row for row in rows if row.key == samples[0].key)
    text = next(m for m in samples[0].members if m.ext == "txt")
    data = text.data.replace((row.trigger_text or "").encode(), b"of the and")
    copy.write([swap(samples[0], replace(text, data=data)), *samples[1:]])
    assert codes(copy.check()) == {"trigger_missing"}


def test_one_sample_missing(copy: Copy) -> None:
    samples = copy.samples()
    copy.write(samples[:3] + samples[4:])
    report = copy.check()
    assert codes(report) == {"sample_missing"}
    assert report.violations[0].key == samples[3].key
    assert codes(copy.check(against=True)) == {"sample_missing"}


def test_one_sample_missing_with_its_row(copy: Copy) -> None:
    samples, (rows, _) = copy.samples(), copy.rows()
    gone = samples[3].key
    kept = [row for row in rows if row.key != gone]
    renumbered = [replace(row, row=place) for place, row in enumerate(kept)]
    copy.write(samples[:3] + samples[4:], renumbered)
    assert copy.check().violations == []
    report = copy.check(against=True)
    assert codes(report) == {"row_missing", "row_without_input"}
    assert gone in {violation.key for violation in report.violations}


def test_one_sample_added(copy: Copy) -> None:
    samples = copy.samples()
    extra = replace(
        samples[1],
        key="zzz",
        members=tuple(
            replace(m, name=m.name.replace(samples[1].key, "zzz")) for m in samples[1].members
        ),
    )
    copy.write([*samples, extra])
    for against in (False, True):
        report = copy.check(against=against)
        assert codes(report) == {"sample_added"}
        assert report.violations[0].key == "zzz"


def test_a_quarantined_sample_published_all_the_same(copy: Copy) -> None:
    with open_shard(str(copy.originals / f"{SHARD}.tar")) as reader:
        bad = list(reader)[4]
    samples = copy.samples()
    copy.write([*samples[:4], bad, *samples[4:]])
    for against in (False, True):
        assert codes(copy.check(against=against)) == {"sample_added"}


def test_two_samples_in_each_others_place(copy: Copy) -> None:
    samples = copy.samples()
    samples[1], samples[6] = samples[6], samples[1]
    copy.write(samples)
    for against in (False, True):
        assert codes(copy.check(against=against)) == {"sample_order"}


def test_two_images_under_each_others_key(copy: Copy) -> None:
    samples, (rows, _) = copy.samples(), copy.rows()
    first, second = samples[1], samples[6]
    samples[1] = swap(first, replace(image(first), data=image(second).data))
    samples[6] = swap(second, replace(image(second), data=image(first).data))
    copy.write(samples)
    assert codes(copy.check()) == {"image_changed"}
    by_key = {row.key: row for row in rows}
    one, other = by_key[first.key], by_key[second.key]
    rows = changed(rows, replace(one, output_sha256=other.output_sha256))
    rows = changed(rows, replace(other, output_sha256=one.output_sha256))
    copy.write(samples, rows)
    assert copy.check().violations == []
    assert "budget_exceeded" in codes(copy.check(against=True))


@pytest.mark.parametrize("share", [0.02, 0.4, 0.7])
def test_a_truncated_shard(copy: Copy, share: float) -> None:
    data = copy.tar.read_bytes()
    copy.tar.write_bytes(data[: int(share * len(data))])
    for against in (False, True):
        assert codes(copy.check(against=against)) == {"shard_unreadable"}


def test_a_shard_cut_on_a_member_boundary_with_its_hashes_forged(copy: Copy) -> None:
    samples = copy.samples()
    write_shard(copy.tar, samples[:-1])
    data = copy.tar.read_bytes().rstrip(b"\0")
    copy.tar.write_bytes(data + bytes(-len(data) % 512))
    copy.write()
    assert codes(copy.check()) == {"shard_unreadable"}


@pytest.mark.parametrize("path", [f"{SHARD}.tar", f"manifest/{SHARD}.parquet"])
def test_a_missing_file(copy: Copy, path: str) -> None:
    place(copy.folder, path).unlink()
    expected = "shard_unreadable" if path.endswith(".tar") else "manifest_unreadable"
    assert codes(copy.check()) == {expected}


def test_a_manifest_of_another_run(
    copy: Copy, originals: Path, surrogate: str, tmp_path: Path
) -> None:
    other = run_protect(originals, tmp_path / "other", surrogate, epsilon=4)
    path = f"manifest/{SHARD}.parquet"
    shutil.copy(kept(other) / path, kept(copy.folder) / path)
    assert {"manifest_changed", "manifest_foreign"} <= codes(copy.check())
    copy.write()
    found = codes(copy.check())
    assert "manifest_foreign" in found
    assert "image_changed" in found


def test_a_manifest_of_another_shard(copy: Copy) -> None:
    manifests = kept(copy.folder) / "manifest"
    shutil.copy(manifests / "shard-001.parquet", manifests / f"{SHARD}.parquet")
    copy.write()
    assert {"manifest_foreign", "sample_missing", "sample_added"} <= codes(copy.check())


def test_rows_that_promise_less_than_the_run(copy: Copy) -> None:
    rows, metadata = copy.rows()
    lax = [replace(row, epsilon=60) if row.epsilon else row for row in rows]
    copy.write(rows=lax)
    assert codes(copy.check()) == {"row_invalid"}
    copy.write(rows=rows, metadata=metadata | {"epsilon": "60"})
    assert codes(copy.check()) == {"manifest_foreign"}


def test_an_original_that_is_not_the_one_protected(copy: Copy, tmp_path: Path) -> None:
    copy.originals = Path(shutil.copytree(copy.originals, tmp_path / "input"))
    path = copy.originals / f"{SHARD}.tar"
    with open_shard(str(path)) as reader:
        samples = list(reader)
    pixels = decode(image(samples[7]).data).pixels.copy()
    pixels[0, 0, 0] ^= 1
    samples[7] = swap(samples[7], replace(image(samples[7]), data=encode(pixels, "png")))
    write_shard(path, samples)
    found = codes(copy.check(against=True))
    assert {"input_changed", "input_image_changed"} <= found


def test_a_member_changed_that_is_no_image_and_no_caption(copy: Copy) -> None:
    samples = copy.samples()
    member = next(m for m in samples[0].members if m.ext == "json")
    content = json.loads(member.data) | {"id": 999}
    samples[0] = swap(samples[0], replace(member, data=json.dumps(content).encode()))
    copy.write(samples)
    assert copy.check().violations == []
    assert codes(copy.check(against=True)) == {"member_changed"}


def test_members_in_another_order(copy: Copy) -> None:
    samples = copy.samples()
    samples[0] = replace(samples[0], members=samples[0].members[::-1])
    copy.write(samples)
    assert codes(copy.check(against=True)) == {"member_changed"}


@pytest.mark.parametrize("path", ["extra.tar", "manifest/extra.parquet", "_ledger/extra.json"])
def test_files_of_no_planned_shard(copy: Copy, path: str) -> None:
    source = place(copy.folder, path.replace("extra", SHARD))
    shutil.copy(source, source.with_name(Path(path).name))
    assert "unexpected_file" in codes(copy.check())


def test_a_file_of_the_owner_is_no_violation(copy: Copy) -> None:
    (copy.folder / "LICENSE").write_text("mine")
    assert copy.check().exit_code == 0


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("_SUCCESS", "not_finished"),
        ("index.json", "index_mismatch"),
        ("README.md", "card_mismatch"),
        ("croissant.json", "card_mismatch"),
        (f"_ledger/{SHARD}.json", "ledger_missing"),
    ],
)
def test_what_describes_the_copy_is_missing(copy: Copy, path: str, code: str) -> None:
    place(copy.folder, path).unlink()
    assert code in codes(copy.check())


def test_an_input_with_other_shards(copy: Copy, tmp_path: Path) -> None:
    copy.originals = Path(shutil.copytree(copy.originals, tmp_path / "input"))
    (copy.originals / "shard-001.tar").rename(copy.originals / "shard-009.tar")
    assert codes(copy.check(against=True)) == {"input_missing", "input_not_planned"}


def test_a_folder_that_protect_did_not_write(originals: Path) -> None:
    with pytest.raises(UsageError, match="no list of its shards"):
        verify(VerifyConfig(str(originals)))


def test_the_list_is_bounded_and_the_counts_are_not(copy: Copy) -> None:
    copy.write(copy.samples()[:2])
    report = verify(VerifyConfig(str(copy.folder), max_listed=3))
    assert len(report.violations) == 3
    assert report.counts == {"sample_missing": 7}
    assert "and 4 more" in str(report)
    content = json.loads(report.to_json())
    assert content["exit_code"] == 4
    assert content["violations"][0]["code"] == "sample_missing"


def test_random_noise_without_triggers_is_verified_too(originals: Path, tmp_path: Path) -> None:
    output = str(tmp_path / "random")
    config = ProtectConfig(
        str(originals), output, method="random", executor="local", max_quarantined=1.0
    )
    assert protect(config).exit_code == 0
    assert verify(VerifyConfig(output, against=str(originals))).violations == []


def test_joining_holds_few_samples_and_pairs_what_it_can() -> None:
    def stream(order: Iterable[int]) -> Iterable[Sample]:
        return (Sample(str(number), (), number) for number in order)

    rng = np.random.default_rng(0)
    keys = {str(number) for number in range(500)}
    near = sorted(range(500), key=lambda number: number + rng.random() * 20)
    pairs = list(_join(stream(range(500)), stream(near), keys))
    assert all(a is not None and b is not None and a.key == b.key for a, b in pairs)
    assert len(pairs) == 500
    # Every third sample gone from one side: none of the others loses its partner.
    some = [number for number in range(150) if number % 3]
    pairs = list(_join(stream(range(150)), stream(some), {str(number) for number in some}))
    assert sum(a is not None and b is not None for a, b in pairs) == len(some)
    assert len(pairs) == 150


def test_the_test_corpus_has_triggers_in_front(copy: Copy) -> None:
    """The cases above would prove little on a copy whose captions carry no trigger."""
    rows, metadata = copy.rows()
    from unlearnable.pipeline.method.models import get_tokenizer

    tokenizer = get_tokenizer(metadata["tokenizer"], int(metadata["context_length"]))
    statuses = [row.status for row in rows]
    assert statuses == ["protected"] * 4 + ["quarantined"] + ["protected"] * 5
    for row in rows:
        if row.status == "protected":
            assert row.trigger_tokens
            assert leading_ids(tokenizer, f"{row.trigger_text} x", 3) == row.trigger_tokens
