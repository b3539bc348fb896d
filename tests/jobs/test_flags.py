"""The options of the command line are a contract: who changes one changes it here, on purpose."""

from __future__ import annotations

import pytest

from unlearnable.jobs.cli import build_app

FLAGS = {
    ("fit",): "",
}


def flags(command: tuple[str, ...]) -> str:
    app = build_app()
    for name in command:
        app = app[name]
    names = [name for argument in app.assemble_argument_collection() for name in argument.names]
    shown = (name for name in names if name != "*" and not name.startswith(("--no-", "--empty-")))
    return " ".join(sorted(shown))


def test_every_command_is_frozen() -> None:
    app = build_app()
    commands = {name for name in app if not name.startswith("-")}
    assert {command[0] for command in FLAGS} == commands


@pytest.mark.parametrize("command", FLAGS)
def test_flags(command: tuple[str, ...]) -> None:
    assert flags(command) == " ".join(sorted(FLAGS[command].split()))
