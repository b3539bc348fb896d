"""Where the record of an output lies."""

from __future__ import annotations

import re
import uuid
from pathlib import Path

import pytest

from unlearnable.pipeline.data.plan import Plan, ShardInput, config_hash, write_plan
from unlearnable.pipeline.data.record import find_record
from unlearnable.pipeline.errors import UsageError

PLAN = Plan((ShardInput("a", "/in/a.tar"),), {}, config_hash({}), "1")


def test_beside_the_output_or_where_the_user_says(tmp_path: Path) -> None:
    output = str(tmp_path / "out")
    assert find_record(output) == find_record(f"{output}/") == f"{output}-record"
    url = f"memory://{uuid.uuid4().hex}/out"
    assert find_record(url) == f"{url}-record"
    elsewhere = str(tmp_path / "elsewhere")
    assert find_record(output, elsewhere) == elsewhere
    assert find_record(output, "memory://kept") == "memory://kept"


def test_the_folder_that_the_user_is_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    assert find_record(".") == f"{tmp_path}/out-record"
    assert find_record("../out") == "../out-record"
    assert find_record("..") == f"{tmp_path}-record"


@pytest.mark.parametrize("output", ["s3://bucket", "s3://bucket/", "/"])
def test_where_nothing_lies_beside(output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unlearnable.pipeline.data.record._has_plan", lambda _: False)
    with pytest.raises(UsageError, match="give --record"):
        find_record(output)
    assert find_record(output, "s3://other/kept") == "s3://other/kept"


def test_never_inside_the_output(tmp_path: Path) -> None:
    for inside in ("out", "out/", "out/record", "other/../out/x"):
        with pytest.raises(UsageError, match="would be published with it"):
            find_record(str(tmp_path / "out"), str(tmp_path / inside))
    url = f"memory://{uuid.uuid4().hex}"
    with pytest.raises(UsageError, match="would be published with it"):
        find_record(url, f"{url}/record")


def test_a_copy_of_the_first_version_has_it_inside(tmp_path: Path) -> None:
    output = str(tmp_path / "out")
    write_plan(output, PLAN)
    assert find_record(output) == find_record(output, f"{output}/") == output
    with pytest.raises(UsageError, match=r"has its record inside it.*leave --record out, or move"):
        find_record(output, str(tmp_path / "elsewhere"))


def test_another_record_than_the_one_beside_is_refused(tmp_path: Path) -> None:
    output = str(tmp_path / "out")
    write_plan(f"{output}-record", PLAN)
    assert find_record(output, f"{output}-record/").rstrip("/") == f"{output}-record"
    with pytest.raises(UsageError, match=re.escape(f"is {output}-record, not")):
        find_record(output, str(tmp_path / "elsewhere"))
