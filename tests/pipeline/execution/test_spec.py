"""What is written down of a run says what ran."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from unlearnable.pipeline.data.manifest import ManifestRow, manifest_url, read_manifest
from unlearnable.pipeline.data.record import find_record
from unlearnable.pipeline.execution.config import ProtectConfig
from unlearnable.pipeline.execution.options import LossChoice
from unlearnable.pipeline.execution.protect import make_spec, protect
from unlearnable.pipeline.execution.spec import RunSpec
from unlearnable.pipeline.method.config import MethodConfig


def rows(output: Path) -> list[ManifestRow]:
    return read_manifest(manifest_url(find_record(str(output)), "shard-000"))[0]


def test_one_batch_in_32_is_measured_and_equal_runs_choose_the_same() -> None:
    spec = make_spec(ProtectConfig("in", "out", method="random"))
    chosen = [spec.measures(f"shard-{i:03d}", batch) for i in range(100) for batch in range(40)]
    assert 4000 / 64 < sum(chosen) < 4000 / 16
    again = make_spec(ProtectConfig("in", "out", method="random"))
    assert chosen == [again.measures(f"shard-{i:03d}", b) for i in range(100) for b in range(40)]
    other = dataclasses.replace(spec, seed=1)
    assert chosen != [other.measures(f"shard-{i:03d}", b) for i in range(100) for b in range(40)]


@pytest.mark.parametrize(("losses", "measured"), [("all", True), ("none", False)])
def test_losses_are_measured_on_request_and_change_no_published_byte(
    losses: LossChoice, measured: bool, corpus: Path, surrogate: str, tmp_path: Path
) -> None:
    default, output = tmp_path / "default", tmp_path / "out"
    source = str(corpus / "shard-000.tar")
    config = ProtectConfig(source, str(default), surrogate=surrogate, executor="local")
    protect(config)
    protect(dataclasses.replace(config, output=str(output), losses=losses))
    for row in rows(output):
        assert (row.loss_before is not None) is measured
        assert (row.loss_after is not None) is measured
    name = "shard-000.tar"
    assert (output / name).read_bytes() == (default / name).read_bytes()


def test_a_specification_is_written_under_the_published_name_and_read_back() -> None:
    mem = MethodConfig(steps=0, shuffle=False)
    spec = RunSpec(mem, 128, 7, "", 0, "png", ("caption",), 1, 1, "0")
    assert spec.as_dict()["mem"]["method"] == "code"
    assert RunSpec.from_dict(spec.as_dict()) == spec
    stepped = dataclasses.replace(spec, mem=dataclasses.replace(mem, steps=2))
    assert stepped.as_dict()["mem"]["method"] == "mem"
    assert RunSpec.from_dict(stepped.as_dict()) == stepped
