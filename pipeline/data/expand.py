"""Input URLs to shard URLs: folders, globs, brace lists ``{000..005}`` and ``{a,b}``."""

import re
from collections import deque
from collections.abc import Sequence
from itertools import islice

from ..errors import UsageError
from . import storage
from .compression import is_archive, shard_stem

MAX_NAMES = 1_000_000
_OTHER_ARCHIVES = (
    ".zip", ".zipx", ".7z", ".rar", ".cpio", ".tlz", ".tar.lz4", ".tar.lzma", ".tar.lzo", ".tar.lz",
    ".tar.z", ".tar.br", ".tar.sz",
)  # fmt: skip
# Files whose bytes are looked at, and folders that are listed, for shards that would be left out.
_LOOKED_AT, _LISTED = 64, 1024
_HEAD = 512


def expand(url: str) -> list[str]:
    """Return the sorted URLs of the shards that an input URL names.

    Args:
        url: a folder (its ``.tar`` files, plain or compressed), a glob, one shard, or any of these
            with brace lists. Local results are absolute paths.

    A shard that a brace list names but that is missing is kept: it fails alone, when it is read.

    Raises:
        UsageError: nothing found, unreadable folder, malformed braces.
    """
    pieces = expand_braces(url)
    found: list[str] = []
    for piece in pieces:
        # Not looked for one after the other: a list may have a million names.
        named = len(pieces) > 1 and is_shard(piece) and not _has_magic(piece)
        shards = [_absolute(piece)] if named else _expand_one(piece)
        if not shards:
            raise UsageError(_nothing_found(piece))
        found += shards
    return sorted(found)


def expand_braces(text: str) -> list[str]:
    """Return every name that ``text`` stands for by webdataset's rule, in the order written.

    Raises:
        UsageError: unbalanced braces, neither range nor list, over ``MAX_NAMES`` names.
    """
    if "{" not in text and "}" not in text:
        return [text]
    from webdataset.shardlists import expand_urls

    count = 1
    for body in re.findall(r"\{([^{}]*)\}", text):
        numbers = re.fullmatch(r"(\d+)\.\.(\d+)", body)
        if numbers is None and "," not in body:
            raise UsageError(
                f"{{{body}}} in {text} is neither a range like {{000..005}} nor a list like {{a,b}}"
            )
        first, last = map(int, numbers.groups()) if numbers else (0, body.count(","))
        if first > last:
            raise UsageError(f"{{{body}}} in {text} must count upwards")
        count *= last - first + 1
    # The library makes the whole list before it returns.
    if count > MAX_NAMES:
        raise UsageError(f"{text} stands for more than {MAX_NAMES} names")
    try:
        return list(expand_urls(text))
    except ValueError as error:
        raise UsageError(f"{text}: {error}; write {{000..005}} or {{a,b}}") from error


def _expand_one(url: str) -> list[str]:
    if storage.is_http(url):
        return [url]
    try:
        if storage.is_folder(url):
            return _shards_in(_absolute(url))
        # A file whose own name holds glob characters is still that file.
        if storage.exists(url):
            return [_absolute(url)]
        found = storage.glob(url) if _has_magic(url) else []
    except PermissionError as error:
        raise UsageError(
            f"cannot read {url}: permission denied; check its access rights or credentials"
        ) from error
    return [
        name for name in found if is_shard(name) and not storage.base_name(name).startswith(".")
    ]


def is_shard(url: str) -> bool:
    """Whether the name is that of a shard: ``.tar``, plain or compressed, in any case."""
    return shard_stem(storage.base_name(url)) is not None


def _shards_in(folder: str) -> list[str]:
    """Return the shards in ``folder``; refuse what the run would leave out in silence."""
    files, folders = storage.list_names(folder), storage.list_names(folder, folders=True)
    # A folder named like a shard is kept, like a missing shard: it fails alone, when it is read.
    shards = [storage.join(folder, name) for name in (*files, *folders) if is_shard(name)]
    if not shards:
        return []
    own = storage.join(folder, "*.[tT]*")
    below = _holding_shards(folder, [name for name in folders if not is_shard(name)])
    if below is not None:
        raise UsageError(
            f"{folder} holds shards beside sub-folders with shards ({below}): give "
            f"{storage.join(folder, '**')} for all of them, or {own} to leave the folders out"
        )
    odd = _other_archive(folder, files)
    if odd is not None:
        raise UsageError(
            f"{folder} holds {odd} beside its shards, an archive that is not read by this name: "
            f"repack or rename it as .tar, or give {own} to leave it out"
        )
    return shards


def _other_archive(folder: str, files: Sequence[str]) -> str | None:
    """Return the name of an archive that is no shard by its name; by bytes where a name is odd."""
    for name in files:
        if name.lower().endswith(_OTHER_ARCHIVES):
            return name
    odd = (
        name for name in files if not is_shard(name) and (".tar" in name.lower() or "." not in name)
    )
    for name in islice(odd, _LOOKED_AT):
        with storage.open_read(storage.join(folder, name)) as file:
            if is_archive(file.read(_HEAD)):
                return name
    return None


def _holding_shards(folder: str, names: Sequence[str]) -> str | None:
    """Return the path of a folder below ``folder``, at any depth, that holds shards."""
    waiting = deque(names)
    for _ in range(_LISTED):
        if not waiting:
            break
        path = waiting.popleft()
        url = storage.join(folder, path)
        if any(map(is_shard, storage.list_names(url))):
            return path
        waiting += [f"{path}/{name}" for name in storage.list_names(url, folders=True)]
    return None


def _nothing_found(url: str) -> str:
    if storage.local_path(url) is not None and storage.is_folder(url):
        below = _holding_shards(url, storage.list_names(url, folders=True))
        hint = f"; there are some in {below}: use {storage.join(url, '**')}" if below else ""
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
