"""Environments of heavy tools that no test may share a site-packages with: one folder each, kept.

An environment is made once, in pytest's cache folder; `make clean` takes it away.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest


def environment(config: pytest.Config, name: str, *requirements: str) -> Path:
    """Return the folder of programs of an environment with ``requirements``; skip without them."""
    told = hashlib.sha256("\n".join([sys.version, *requirements]).encode()).hexdigest()[:12]
    assert config.cache is not None
    folder = config.cache.mkdir(f"{name}-{told}") / "env"
    programs, ready = folder / "bin", folder / "ready"
    if ready.exists():
        return programs
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    install = [programs / "python", "-m", "pip", "install", "--quiet", *requirements]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"{' '.join(requirements)} cannot be installed: {done.stderr[-500:]}")
    ready.touch()
    return programs
