"""The distribution: what is installed under which name, and what the metadata say."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from PIL import Image

import unlearnable

ROOT = Path(__file__).resolve().parents[1]
DEPLOYMENTS = ("airflow", "dagster", "grafana", "kubernetes", "ray", "slurm")
COLOURS = ("red", "green", "blue", "white", "black")
THINGS = ("house", "river", "table", "boat", "garden", "bridge", "castle", "tower")
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


def test_the_next_major_version_of_open_clip_is_not_taken() -> None:
    """It changes the interface for training."""
    (asked,) = (r for r in map(Requirement, PROJECT["project"]["dependencies"]) if "clip" in r.name)
    assert asked.specifier.contains("3.3.0")
    assert not asked.specifier.contains("4.0.0")


def test_python_api_is_lazy_and_complete() -> None:
    script = "import sys, unlearnable; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
    for name in ("fit", "load_surrogate", "protect", "protect_batch", "verify", "evaluate"):
        assert callable(getattr(unlearnable, name))
        assert name in dir(unlearnable)
    with pytest.raises(AttributeError, match="poison"):
        _ = unlearnable.poison


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A copy of what git would give a stranger, because a build leaves folders behind."""
    source = tmp_path / "source"
    source.mkdir()
    for path in [*ROOT.glob("*.toml"), *ROOT.glob("*.md"), ROOT / "LICENSE"]:
        (source / path.name).write_bytes(path.read_bytes())
    for top in ("pipeline", "kernels", "jobs"):
        for path in (ROOT / top).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                target = source / path.relative_to(ROOT)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(path.read_bytes())
    return source


def data_files() -> list[Path]:
    folders = [ROOT / "pipeline", *(ROOT / "jobs" / name for name in DEPLOYMENTS)]
    return [
        path
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]


def test_wheel_has_one_top_level_name_and_its_data(source: Path, tmp_path: Path) -> None:
    build = "from setuptools.build_meta import build_wheel; print(build_wheel('..'))"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"unlearnable"}
    for path in data_files():
        assert f"unlearnable/{path.relative_to(ROOT).as_posix()}" in names
    assert {"unlearnable/__init__.py", "unlearnable/__main__.py", "unlearnable/py.typed"} <= set(
        names
    )
    assert not any("/api/" in name for name in names)


def test_make_says_what_it_installs() -> None:
    line = ["make", "--dry-run", "--always-make", ".venv/installed"]
    told = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "about 7 GB" in told
    assert "--quiet" not in told


def needed(requirement: str, found: dict[str, metadata.Distribution]) -> None:
    """Add the distribution that a requirement names, and all that it needs without an extra."""
    asked = Requirement(requirement)
    name = normal(asked.name)
    if name in found or not (asked.marker is None or asked.marker.evaluate({"extra": ""})):
        return
    found[name] = metadata.distribution(asked.name)
    for inner in found[name].requires or []:
        needed(inner, found)
    for extra in asked.extras:
        for inner in found[name].requires or []:
            marker = Requirement(inner).marker
            if marker is not None and marker.evaluate({"extra": extra}):
                needed(inner.split(";")[0], found)


def empty_environment(folder: Path, shared: Path) -> Path:
    """A virtual environment that sees what the package needs, by links to what is installed here.

    Returns:
        the folder of its programs.
    """
    found: dict[str, metadata.Distribution] = {}
    for requirement in PROJECT["project"]["dependencies"]:
        needed(requirement, found)
    assert "ray" not in found
    shared.mkdir()
    for distribution in found.values():
        for file in distribution.files or []:
            link = shared / file.parts[0]
            if file.parts[0] not in ("..", "__pycache__", "bin") and not link.is_symlink():
                link.symlink_to(Path(str(distribution.locate_file(file.parts[0]))))
    venv.create(folder, with_pip=True)
    # Older Pythons put one there that is too old for torch and would hide the shared one.
    own = [str(folder / "bin" / "python"), "-m", "pip", "uninstall", "--yes", "setuptools"]
    subprocess.run(own, check=True, capture_output=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "shared.pth").write_text(f"{shared}\n")
    return folder / "bin"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_wheel_of_the_sdist_takes_a_folder_to_a_protected_copy(
    source: Path, tmp_path: Path
) -> None:
    line = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path / "dist")]
    subprocess.run([*line, str(source)], check=True, capture_output=True)
    assert len(list((tmp_path / "dist").glob("unlearnable-*.tar.gz"))) == 1
    (wheel,) = (tmp_path / "dist").glob("unlearnable-*.whl")
    programs = empty_environment(tmp_path / "venv", tmp_path / "shared")
    pip = [str(programs / "python"), "-m", "pip", "--isolated"]
    install = [*pip, "install", "--no-index", str(wheel)]
    subprocess.run(install, check=True, capture_output=True)

    pictures = tmp_path / "my-pictures"
    pictures.mkdir()
    rng = np.random.default_rng(0)
    with (pictures / "captions.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "caption"])
        for number in range(40):
            ground = rng.integers(0, 256, 3)
            pixels = np.clip(rng.normal(ground, 30, (72, 96, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(pictures / f"{number}.jpg")
            words = [COLOURS[number % 5], THINGS[number // 5]]
            table.writerow([f"{number}.jpg", f"a {' '.join(words)} by the old road"])
    bare = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    script = "import unlearnable; print(unlearnable.__file__)"
    where = subprocess.run(
        [str(programs / "python"), "-c", script], cwd=tmp_path, env=bare, check=True,
        capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert where.startswith(str(tmp_path / "venv"))
    run = [str(programs / "unlearnable"), "run", "my-pictures", "protected"]
    done = subprocess.run(run, cwd=tmp_path, env=bare, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "publish  protected" in done.stdout
    assert (tmp_path / "protected" / "_SUCCESS").exists()
    assert (tmp_path / "protected-report.html").exists()
