"""Options from a YAML file, under the same names and the same checks as on the command line."""

import difflib
from pathlib import Path
from typing import Any

import yaml
from cyclopts import App
from cyclopts.argument import ArgumentCollection
from cyclopts.config import Dict

from ..pipeline.errors import UsageError

_NUMBER_LISTS = (tuple[int, ...], tuple[float, ...])
_INTEGERS = (int, int | None, tuple[int, ...])


class FileOptions:
    """The values of one ``--config`` file; what stands on the command line wins over them.

    Args:
        path: a YAML file that holds one mapping; its keys are option names, with ``-`` or ``_``.

    Raises:
        UsageError: the file cannot be read or is not a mapping of option names.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.values = _read_mapping(path)

    def __call__(self, app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
        """Give the values to the options of the command (called by cyclopts).

        Raises:
            UsageError: a key is no option of the command; the message has the nearest one.
        """
        # `no-dry-run: true` would be read as `dry-run: true`: a file says `dry-run: false`.
        names = [set(argument.names) - set(argument.negatives) for argument in arguments]
        known = sorted(name[2:] for name in set().union(*names) if name.startswith("--"))
        for key in self.values:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                command = " ".join(commands)
                raise UsageError(f"{self.path}: {key!r} is no option of `{command}`{hint}")
        Dict(self.values, source=self.path, use_commands_as_keys=False)(app, commands, arguments)


def split_numbers(_app: App, _commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Let lists of numbers be written with commas, ``--seeds 0,1,2`` (called by cyclopts)."""
    for argument in arguments:
        if argument.hint in _NUMBER_LISTS and any("," in token.value for token in argument.tokens):
            values = [(token, part) for token in argument.tokens for part in token.value.split(",")]
            argument.tokens[:] = [
                token.evolve(value=part, index=index) for index, (token, part) in enumerate(values)
            ]


def whole_numbers(_app: App, _commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Refuse fractions for integer options, which cyclopts would cut (called by cyclopts).

    Raises:
        UsageError: a value is a number but not a whole one.
    """
    for argument in arguments:
        if argument.hint in _INTEGERS:
            for token in argument.tokens:
                if _is_fraction(token.value):
                    raise UsageError(f"{argument.name} is {token.value}; give a whole number")


def _is_fraction(value: str) -> bool:
    try:
        return not float(value).is_integer()
    except ValueError:
        return False


def _read_mapping(path: str) -> dict[str, Any]:
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read --config {path}: {error.strerror}") from error
    # A date that is none is a ValueError of YAML's.
    except (yaml.YAMLError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"--config {path} is not YAML: {reason}") from error
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise UsageError(f"--config {path} must hold one mapping, option name: value")
    return {key.replace("_", "-"): value for key, value in content.items()}
