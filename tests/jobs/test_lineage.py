"""Lineage: both platforms name a folder alike, so that their graphs meet."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import pytest

JOBS = Path(__file__).resolve().parents[2] / "jobs"
FILES = (JOBS / "airflow" / "unlearnable_dag.py", JOBS / "dagster" / "unlearnable_assets.py")


def naming(path: Path) -> ast.Module:
    """The function that names a dataset, without the platform that its file needs."""
    tree = ast.parse(path.read_text())
    return ast.Module([n for n in tree.body if getattr(n, "name", "") == "dataset_name"], [])


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("s3://archive/shards/2026-03-01", ("s3://archive", "shards/2026-03-01")),
        ("s3://archive", ("s3://archive", "/")),
        ("/data/shards", ("file", "/data/shards")),
        ("shards", ("file", f"{Path.cwd()}/shards")),
    ],
)
def test_a_folder_is_named_by_its_store_and_path(url: str, name: tuple[str, str]) -> None:
    first, second = (naming(path) for path in FILES)
    assert ast.dump(first) == ast.dump(second)
    scope = {"os": os}
    exec(compile(first, "naming", "exec"), scope)  # noqa: S102 - a function of these files
    assert scope["dataset_name"](url) == name  # type: ignore[operator]
