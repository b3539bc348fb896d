"""Large JSON documents without holding them in memory: one long list is written item by item."""

import io
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, BinaryIO


def json_pieces(
    document: Mapping[str, Any], name: str, items: Iterable[object], *, ensure_ascii: bool = True
) -> Iterator[bytes]:
    """Yield the JSON of ``{**document, name: [*items]}`` in pieces, a line an item of that list.

    Everything else is indented. Items are not: indenting takes ten times as long.

    Args:
        document: everything; ``document[name]`` is an empty list.
        name: a key of ``document``.
        items: what the list there holds.
        ensure_ascii: whether other characters are escaped.
    """
    whole = json.dumps(document, indent=1, ensure_ascii=ensure_ascii)
    # No text holds a line break, and nothing else is indented as little as the outermost keys.
    before, after = whole.split(f'\n "{name}": []', 1)
    yield f'{before}\n "{name}": ['.encode()
    end = "]"
    for item in items:
        comma, end = "" if end == "]" else ",", "\n ]"
        yield f"{comma}\n  {json.dumps(item, ensure_ascii=ensure_ascii)}".encode()
    yield f"{end}{after}".encode()


def read_before(file: BinaryIO, name: str) -> Any:
    """Return the part of such a document that stands before its list ``name``; else all of it.

    Raises:
        ValueError, RecursionError: it is not JSON.
    """
    head: list[bytes] = []
    for line in io.BufferedReader(file) if isinstance(file, io.RawIOBase) else file:
        if line.rstrip() == f' "{name}": ['.encode():
            return json.loads(b"".join(head).rstrip().removesuffix(b",") + b"}")
        head.append(line)
    return json.loads(b"".join(head))
