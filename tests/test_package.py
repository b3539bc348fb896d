"""The distribution: what is installed under which name, and what the metadata say."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

import unlearnable

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_version_is_one() -> None:
    assert metadata.version("unlearnable") == unlearnable.__version__
    assert f"## {unlearnable.__version__}" in (ROOT / "CHANGELOG.md").read_text()
    assert f"version: {unlearnable.__version__}" in (ROOT / "CITATION.cff").read_text()


def test_every_source_folder_is_a_listed_package() -> None:
    listed = set(PROJECT["tool"]["setuptools"]["packages"])
    folders = {
        "unlearnable." + ".".join(path.parent.relative_to(ROOT).parts)
        for top in ("pipeline", "kernels", "jobs")
        for path in (ROOT / top).rglob("__init__.py")
    }
    assert listed == folders - {"unlearnable.jobs.api"} | {"unlearnable"}


def test_constraints_pin_every_direct_dependency_without_urls() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.!]*", pin) for pin in pins)
    asked = PROJECT["project"]["dependencies"] + [
        name for extra in PROJECT["project"]["optional-dependencies"].values() for name in extra
    ]
    wanted = {normal(re.split(r"[\[<>=]", name)[0]) for name in asked}
    assert wanted <= {normal(pin.split("==")[0]) for pin in pins}


def test_python_api_is_lazy_and_complete() -> None:
    script = "import sys, unlearnable; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
    for name in ("fit", "load_surrogate", "protect", "protect_batch", "verify", "evaluate"):
        assert callable(getattr(unlearnable, name))
        assert name in dir(unlearnable)
    with pytest.raises(AttributeError, match="poison"):
        _ = unlearnable.poison


def test_wheel_has_one_top_level_name_and_its_data(tmp_path: Path) -> None:
    # A copy, because a build leaves folders behind; only what git would give a stranger.
    source = tmp_path / "source"
    for path in [*ROOT.glob("*.toml"), *ROOT.glob("*.md"), ROOT / "LICENSE"]:
        source.mkdir(exist_ok=True)
        (source / path.name).write_bytes(path.read_bytes())
    for top in ("pipeline", "kernels", "jobs"):
        for path in (ROOT / top).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                target = source / path.relative_to(ROOT)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(path.read_bytes())
    build = "from setuptools.build_meta import build_wheel; print(build_wheel('..'))"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"unlearnable"}
    for path in (ROOT / "pipeline").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            assert f"unlearnable/{path.relative_to(ROOT).as_posix()}" in names
    assert {"unlearnable/__init__.py", "unlearnable/__main__.py", "unlearnable/py.typed"} <= set(
        names
    )
    assert not any("/api/" in name for name in names)
