"""What the builders share in reading a corpus as its owner distributes it."""

import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ...errors import UsageError
from .. import storage
from ..formats import IMAGE_EXTS
from ..urls import is_text
from .writing import refuse_existing


def source_folder(src: str, out: str) -> Path:
    """Return ``src`` as a path once a corpus can go from there to ``out``.

    Raises:
        UsageError: ``src`` is no local folder, ``out`` is inside it or holds something.
    """
    folder = storage.local_path(src)
    if folder is None or not folder.is_dir():
        packed = folder is not None and folder.is_file()
        raise UsageError(
            f"{src} is not a folder on this machine; "
            + ("unpack it, and give" if packed else "give")
            + " the folder that holds the images"
        )
    if storage.is_inside(out, src):
        raise UsageError(f"{out} is inside {src}; choose an output folder outside it")
    refuse_existing(out)
    return folder


def find_one(folder: Path, names: Sequence[str], what: str) -> Path:
    """Return the first of ``names`` that exists below ``folder``; a name with ``/`` is a folder.

    Raises:
        UsageError: there is none; the message lists the names.
    """
    for name in names:
        path = folder / name
        if path.is_dir() if name.endswith("/") else path.is_file():
            return path
    raise UsageError(f"{folder} holds no {what}: none of {', '.join(names)} is there")


def numbered_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the lines of a UTF-8 text, stripped and not empty, each with its place for messages.

    Raises:
        UsageError: it cannot be read, is not UTF-8.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield f"{path} line {number}", line.strip()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise not_utf8(path) from error


def not_utf8(path: Path) -> UsageError:
    """Return the error that names the first line of ``path`` that is not UTF-8."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                where = f"{path} line {number}: not UTF-8 ({error.reason} at byte {error.start})"
                return UsageError(f"{where}; save the file as UTF-8")
    return UsageError(f"{path} is not UTF-8; save the file as UTF-8")


def read_json(path: Path) -> dict[str, Any]:
    """Return the object that a JSON file holds.

    Raises:
        UsageError: it cannot be read, is not JSON (the line is named) or no object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except json.JSONDecodeError as error:
        raise UsageError(f"{path} line {error.lineno}: not JSON ({error.msg})") from error
    except UnicodeDecodeError as error:
        raise not_utf8(path) from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not JSON ({error})") from error
    if not isinstance(content, dict):
        raise UsageError(f"{path} line 1: a JSON object is expected")
    return content


def entries(path: Path, content: dict[str, Any], name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the objects of the list ``name`` in a JSON file, each with its place for messages.

    Raises:
        UsageError: no such list, an element that is no object.
    """
    found = content.get(name)
    if not isinstance(found, list):
        raise UsageError(f"{path} has no list {name!r}")
    for index, entry in enumerate(found):
        if not isinstance(entry, dict):
            raise UsageError(f"{path} {name}[{index}]: a JSON object is expected")
        yield f"{path} {name}[{index}]", entry


def check_text(what: str, text: str) -> None:
    """Raise UsageError when UTF-8 cannot hold ``text``; the message calls it ``what``."""
    if not is_text(text):
        raise UsageError(f"{what} is not a text (UTF-8 cannot hold it): {text[:60]!r}")


def is_image(name: str) -> bool:
    """Whether a file name is one of an image and not hidden."""
    return not name.startswith(".") and name.rsplit(".", 1)[-1].lower() in IMAGE_EXTS


def image_names(folder: Path) -> list[str]:
    """Return the sorted names of the image files directly in ``folder``."""
    with os.scandir(folder) as found:
        return sorted(entry.name for entry in found if is_image(entry.name) and entry.is_file())


def read_image(path: Path) -> bytes:
    """Return the bytes of an image file. Raises UsageError when it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read the image {path}: {error.strerror}") from error


def plain_key(stem: str) -> str:
    """Return a file's path without its extension as a WebDataset key."""
    key = re.sub(r"[^\w/-]+", "_", stem)
    # WebDataset takes names like __this__ for metadata.
    return f"x{key}" if key.startswith("__") else key
