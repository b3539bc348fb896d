"""What is written down of a run says what ran."""

from __future__ import annotations

import dataclasses

from unlearnable.pipeline.execution.spec import RunSpec
from unlearnable.pipeline.method.config import MethodConfig


def test_a_specification_is_written_under_the_published_name_and_read_back() -> None:
    mem = MethodConfig(steps=0, shuffle=False)
    spec = RunSpec(mem, 128, 7, "", 0, "png", ("caption",), 1, 1, "0")
    assert spec.as_dict()["mem"]["method"] == "code"
    assert RunSpec.from_dict(spec.as_dict()) == spec
    stepped = dataclasses.replace(spec, mem=dataclasses.replace(mem, steps=2))
    assert stepped.as_dict()["mem"]["method"] == "mem"
    assert RunSpec.from_dict(stepped.as_dict()) == stepped
