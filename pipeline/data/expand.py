"""Input URLs to shard URLs: folders, globs, brace lists ``{000..005}`` and ``{a,b}``."""

from __future__ import annotations

import re

from ..errors import UsageError
from . import storage

MAX_NAMES = 1_000_000


def expand(url: str) -> list[str]:
    """Return the sorted URLs of the shards that an input URL names.

    Args:
        url: a folder (its ``*.tar`` files), a glob, one shard, or any of these with brace lists.
            Local results are absolute paths.

    A shard that a brace list names but that is missing is kept: it fails alone, when it is read.

    Raises:
        UsageError: nothing found, unreadable folder, malformed braces.
    """
    pieces = expand_braces(url)
    found: list[str] = []
    for piece in pieces:
        # Not looked for one after the other: a list may have a million names.
        named = len(pieces) > 1 and piece.endswith(".tar") and not _has_magic(piece)
        shards = [_absolute(piece)] if named else _expand_one(piece)
        if not shards:
            raise UsageError(_nothing_found(piece))
        found += shards
    return sorted(found)


def expand_braces(text: str) -> list[str]:
    """Return every name that ``text`` stands for, in the order written.

    Raises:
        UsageError: unbalanced or nested braces, neither range nor list, over ``MAX_NAMES`` names.
    """
    match = re.search(r"\{([^{}]*)\}", text)
    if match is None:
        if "{" in text or "}" in text:
            raise UsageError(f"unbalanced braces in {text}: write {{000..005}} or {{a,b}}")
        return [text]
    before, after = text[: match.start()], text[match.end() :]
    if "{" in before:
        raise UsageError(f"braces inside braces in {text}: write one list a shard name part")
    names: list[str] = []
    for option in _options(match.group(1), text):
        names += expand_braces(before + option + after)
        if len(names) > MAX_NAMES:
            raise UsageError(f"{text} stands for more than {MAX_NAMES} names")
    return names


def _options(body: str, text: str) -> list[str]:
    numbers = re.fullmatch(r"(\d{1,18})\.\.(\d{1,18})", body)
    if numbers is None:
        if "," not in body:
            raise UsageError(
                f"{{{body}}} in {text} is neither a range like {{000..005}} nor a list like {{a,b}}"
            )
        return body.split(",")
    first, last = numbers.groups()
    if not 0 <= int(last) - int(first) < MAX_NAMES:
        raise UsageError(f"{{{body}}} in {text} must count upwards, over at most {MAX_NAMES} names")
    width = len(first) if first.startswith("0") else 0
    return [f"{number:0{width}d}" for number in range(int(first), int(last) + 1)]


def _expand_one(url: str) -> list[str]:
    if storage.is_http(url):
        return [url]
    try:
        if storage.is_folder(url):
            # A folder of that name is kept, like a missing shard: it fails alone, when it is read.
            folder = _absolute(url)
            return [
                storage.join(folder, name)
                for folders in (False, True)
                for name in storage.list_names(url, folders=folders)
                if name.endswith(".tar")
            ]
        # A file whose own name holds glob characters is still that file.
        if storage.exists(url):
            return [_absolute(url)]
        found = storage.glob(url) if _has_magic(url) else []
    except PermissionError as error:
        raise UsageError(
            f"cannot read {url}: permission denied; check its access rights or credentials"
        ) from error
    return [
        name
        for name in found
        if name.endswith(".tar") and not storage.base_name(name).startswith(".")
    ]


def _nothing_found(url: str) -> str:
    if storage.local_path(url) is not None and storage.is_folder(url):
        below = storage.join(url, "*", "*.tar")
        hint = f"; there are some one level below: use {below}" if storage.glob(below) else ""
        hint = hint or "; `unlearnable data folder` makes shards of pictures and their captions"
        return f"no .tar shards in the folder {url}{hint}"
    if _has_magic(url):
        return f"no .tar shards match {url}; check the pattern, or give their folder"
    return f"{url} does not exist: give a folder of .tar shards, a glob, a brace list or one shard"


def _absolute(url: str) -> str:
    path = storage.local_path(url)
    return url if path is None else str(path)


def _has_magic(url: str) -> bool:
    return any(character in url for character in "*?[")
