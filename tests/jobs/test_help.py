"""--help fits a screen and tells everything's name; the shell completes commands and options."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cyclopts import App

from unlearnable.jobs.cli import build_app, main
from unlearnable.jobs.help import FIRST, shown_default

SCREEN = (40, 100)


def commands(app: App, before: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = [before]
    for name in app:
        if not name.startswith("-"):
            found += commands(app[name], (*before, name))
    return found


COMMANDS = commands(build_app())


def options(command: tuple[str, ...]) -> set[str]:
    app = build_app()
    for name in command:
        app = app[name]
    if app.default_command is None:
        return set()
    found = app.assemble_argument_collection()
    return {name for argument in found for name in set(argument.names) - set(argument.negatives)}


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(SCREEN[1]))


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_fits_a_screen_and_names_every_option(
    command: tuple[str, ...], screen: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--help"]) == 0
    text = capsys.readouterr().out
    lines = text.splitlines()
    assert len(lines) <= SCREEN[0]
    assert max(map(len, lines)) <= SCREEN[1]
    assert text.startswith("Usage: unlearnable")
    assert {name for name in options(command) if name[:2] == "--"} <= set(text.split())


@pytest.mark.parametrize("command", FIRST)
def test_help_all_explains_what_help_names(
    command: str, screen: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert {f"--{name}" for name in FIRST[command]} <= options((command,))
    main([command, "--help"])
    brief = capsys.readouterr().out
    assert "More, explained by --help-all" in brief
    assert main([command, "--help-all"]) == 0
    full = capsys.readouterr().out
    assert "More, explained" not in full
    assert len(full) > len(brief)
    head, more = brief.split("More, explained by --help-all")
    named = {word for word in more.split() if word.startswith("--")}
    assert named
    assert not named & set(head.split())
    assert named <= set(full.split())


def test_defaults_read_as_they_are_written() -> None:
    values = (0, 0.5, False, ("caption", "captions"), (0, 1), (), None, "", "png")
    shown = ("0", "0.5", "no", "caption captions", "0 1", None, None, None, "png")
    assert tuple(map(shown_default, values)) == shown


def complete(home: Path, *words: str) -> set[str]:
    """What bash offers for the last word, with the script that was installed."""
    script = (
        f'source {home}/.bashrc; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); '
        "_unlearnable; printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    line = ["bash", "-c", script, "bash", *words]
    return set(subprocess.run(line, capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash on this machine")
def test_bash_completes_what_was_installed(tmp_path: Path) -> None:
    (tmp_path / ".bashrc").touch()
    line = [sys.executable, "-m", "unlearnable", "--install-completion"]
    where = os.environ | {"HOME": str(tmp_path), "SHELL": "/bin/bash"}
    subprocess.run(line, env=where, check=True, capture_output=True)
    assert complete(tmp_path, "unlearnable", "pro") == {"protect"}
    assert complete(tmp_path, "unlearnable", "data", "fo") == {"folder"}
    assert "--image-format" in complete(tmp_path, "unlearnable", "protect", "a", "b", "--im")
    formats = complete(tmp_path, "unlearnable", "protect", "a", "b", "--image-format", "")
    assert {"png", "webp", "jpeg", "same"} <= formats
