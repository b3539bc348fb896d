"""The layers, and the sizes that keep every file readable, hold for the whole tree."""

from __future__ import annotations

import ast
import subprocess
import sys
import textwrap
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from unlearnable.pipeline.evaluate.attacks.catalogue import KINDS
from unlearnable.pipeline.method.methods import METHODS

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(
    path for folder in ("pipeline", "kernels", "jobs") for path in (ROOT / folder).rglob("*.py")
)
# Files for other platforms, such as a DAG, lie in folders that are no packages: those load them.
SOURCES = [path for path in FILES if (path.parent / "__init__.py").exists()]
MAX_FILE_LINES = 350
MAX_FUNCTION_LINES = 40

RAY_PACKAGE = "unlearnable.pipeline.execution.executors.ray"
STORAGE_MODULE = "unlearnable.pipeline.data.storage"
_PRODUCTS = (
    "pipeline.verify",
    "pipeline.evaluate",
    "pipeline.report",
    "pipeline.experiments",
    "jobs",
)
_ABOVE_DATA = ("pipeline.execution", *_PRODUCTS)
# Who must not import whom: a dependency points downwards only.
FORBIDDEN = {
    "kernels": ("pipeline", "jobs"),
    "pipeline.method": ("pipeline.data", *_ABOVE_DATA),
    "pipeline.data": ("pipeline.method", *_ABOVE_DATA),
    "pipeline.execution": _PRODUCTS,
    "pipeline.verify": ("pipeline.evaluate", "pipeline.report", "pipeline.experiments", "jobs"),
    "pipeline.evaluate": ("pipeline.verify", "pipeline.report", "pipeline.experiments", "jobs"),
    "pipeline.report": ("pipeline.experiments", "jobs"),
    "pipeline.experiments": ("jobs",),
}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    if parts[:2] == ("jobs", "api"):
        parts = parts[2:]
    return ".".join(("unlearnable", *parts)).removesuffix(".__init__")


def imported(source: str, module: str, *, is_package: bool) -> set[str]:
    """Absolute dotted names that the source imports anywhere, late and type-only imports too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".")
                keep = len(parents) - node.level + is_package
                base = ".".join([*parents[:keep], *filter(None, [node.module])])
            found.add(base)
            found.update(f"{base}.{alias.name}" for alias in node.names)
    return found


def imports_of(path: Path) -> set[str]:
    return imported(path.read_text(), module_name(path), is_package=path.name == "__init__.py")


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def importers(package: str) -> set[str]:
    return {
        module_name(path)
        for path in SOURCES
        if any(within(name, package) for name in imports_of(path))
    }


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Each function with the lines of its body, its docstring not counted."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            if body:
                yield node.name, (body[-1].end_lineno or 0) - body[0].lineno + 1


def test_imports_are_found_in_every_form() -> None:
    source = textwrap.dedent(
        """
        import ray.util
        from ..data import storage
        from . import worker
        def late():
            from ...kernels.pgd_step import pgd_step
        """
    )
    found = imported(source, "unlearnable.pipeline.execution.protect", is_package=False)
    assert {
        "ray.util",
        "unlearnable.pipeline.data.storage",
        "unlearnable.pipeline.execution.worker",
        "unlearnable.kernels.pgd_step",
    } <= found
    late = "from .protect import protect"
    inside = imported(late, "unlearnable.pipeline.execution", is_package=True)
    assert "unlearnable.pipeline.execution.protect.protect" in inside


def test_only_the_ray_executor_and_the_submission_import_ray() -> None:
    found = importers("ray")
    assert any(within(name, RAY_PACKAGE) for name in found)
    assert {name for name in found if not within(name, RAY_PACKAGE)} == {"unlearnable.jobs.ray_job"}


def test_only_storage_imports_fsspec() -> None:
    assert importers("fsspec") | importers("s3fs") == {STORAGE_MODULE}


@pytest.mark.parametrize("layer", FORBIDDEN)
def test_dependencies_point_downwards(layer: str) -> None:
    upward = {
        (module_name(path), name)
        for path in SOURCES
        if within(module_name(path), f"unlearnable.{layer}")
        for name in imports_of(path)
        if any(within(name, f"unlearnable.{other}") for other in FORBIDDEN[layer])
    }
    assert upward == set()


def compared_strings(path: Path) -> Iterator[tuple[str, int]]:
    """Texts that the file compares with, or matches against, with their lines."""
    for node in ast.walk(ast.parse(path.read_text())):
        parts: list[ast.AST] = []
        if isinstance(node, ast.Compare):
            parts = [node.left, *node.comparators]
        elif isinstance(node, ast.MatchValue):
            parts = [node.value]
        for part in parts:
            for leaf in ast.walk(part):
                if isinstance(leaf, ast.Constant) and isinstance(leaf.value, str):
                    yield leaf.value, leaf.lineno


@pytest.mark.parametrize(
    ("names", "home"),
    [(METHODS, "pipeline/method/methods"), (KINDS, "pipeline/evaluate/attacks")],
    ids=["methods", "attacks"],
)
def test_names_are_compared_in_their_registry_alone(names: Collection[str], home: str) -> None:
    # Rooms below evaluate know no attack; what they call jpeg is a format.
    below = ("kernels", "pipeline/method", "pipeline/data", "pipeline/execution", "pipeline/verify")
    blind = below if names is KINDS else ()
    found = {
        f"{path.relative_to(ROOT)}:{line}: {text}"
        for path in SOURCES
        if not any(path.is_relative_to(ROOT / room) for room in (home, *blind))
        for text, line in compared_strings(path)
        if text in names
    }
    assert found == set()


def test_no_setting_is_read_by_a_name_that_may_be_wrong() -> None:
    found = {
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "getattr"
        and isinstance(node.args[0], ast.Name)
        and any(word in node.args[0].id for word in ("config", "settings", "request"))
    }
    assert found == set()


def test_files_stay_short() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in FILES}
    assert {name: n for name, n in lengths.items() if n > MAX_FILE_LINES} == {}


def test_functions_stay_short() -> None:
    long = {
        f"{path.relative_to(ROOT)}:{name}": lines
        for path in FILES
        for name, lines in functions(path)
        if lines > MAX_FUNCTION_LINES
    }
    assert long == {}


def test_everything_but_the_ray_executor_works_without_ray() -> None:
    every = {module_name(path) for path in SOURCES} - {"unlearnable.__main__"}
    modules = sorted(name for name in every if not within(name, RAY_PACKAGE))
    script = textwrap.dedent(
        f"""
        import importlib, sys
        sys.modules["ray"] = None  # what the import system does with it: ImportError
        for name in {modules!r}:
            importlib.import_module(name)
        from unlearnable.jobs.cli import main
        sys.exit(main(["--help"]))
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "protect" in done.stdout
