"""Brace lists in file names: ``{000..005}`` and ``{a,b}``."""

from __future__ import annotations

import re

from ..errors import UsageError

MAX_NAMES = 1_000_000


def expand_braces(text: str) -> list[str]:
    """Return every name that ``text`` stands for, in the order written; lists may nest.

    Raises:
        UsageError: unbalanced braces, neither a range nor a list, more than ``MAX_NAMES`` names.
    """
    match = re.search(r"\{([^{}]*)\}", text)
    if match is None:
        if "{" in text or "}" in text:
            raise UsageError(f"unbalanced braces in {text}: write {{000..005}} or {{a,b}}")
        return [text]
    before, after = text[: match.start()], text[match.end() :]
    names: list[str] = []
    for option in _options(match.group(1), text):
        names += expand_braces(before + option + after)
        if len(names) > MAX_NAMES:
            raise UsageError(f"{text} stands for more than {MAX_NAMES} names")
    return names


def _options(body: str, text: str) -> list[str]:
    numbers = re.fullmatch(r"(\d+)\.\.(\d+)", body)
    if numbers is None:
        if "," not in body:
            raise UsageError(f"{{{body}}} in {text} is neither a range like {{000..005}} nor a list like {{a,b}}")
        return body.split(",")
    first, last = numbers.groups()
    if not 0 <= int(last) - int(first) < MAX_NAMES:
        raise UsageError(f"{{{body}}} in {text} must count upwards, over at most {MAX_NAMES} names")
    width = len(first) if first.startswith("0") else 0
    return [f"{number:0{width}d}" for number in range(int(first), int(last) + 1)]
