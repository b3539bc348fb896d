"""What of a record, or of a surrogate, lies where it would be published; told by content."""

import json
import re
from collections.abc import Collection, Iterator
from functools import partial

from ..data import storage
from ..data.in_groups import map_in_groups

# Names of columns, fields and events that only records and surrogates have. Parquet files and JSON
# texts hold them as they are.
_MARKS = (
    rb"trigger_tokens|shuffle_seeds|batch_seed|input_sha256|source_sha256|manifest_sha256"
    rb"|shard_sha256|surrogate_sha256|weights_sha256|config_hash|plan_version|manifest_version"
    rb'|"event": "(?:shard|run)_'
)
_PIECE = 1 << 20
_OVERLAP = 128
_KEY_BYTES = 32
_HEX = re.compile(rb"\s*[0-9a-fA-F]{64}\s*")
# Files that are read at a time, and by one thread.
_AHEAD, _GROUP = 1 << 9, 16


def find_leaks(
    output: str, shards: Collection[str], hashes: Collection[str], known: Collection[str]
) -> Iterator[str]:
    """Yield a message for each file of an output that must not be published.

    Args:
        output: URL of the output directory.
        shards: file names of its shards, which are not looked into.
        hashes: of configuration and surrogate; a file that holds one is refused.
        known: texts of 64 hexadecimal digits that are no key, such as the sha256 of the index.
    """
    names = [name for name in storage.walk(output) if name not in shards]
    check = partial(_leak, output, re.compile(b"|".join([_MARKS, *map(str.encode, hashes)])), known)
    for found in map_in_groups(check, names, group=_GROUP, ahead=_AHEAD):
        if found:
            yield found


def _leak(output: str, marks: re.Pattern[bytes], known: Collection[str], name: str) -> str:
    """Return what is wrong with a file; empty for nothing."""
    if name.endswith(".tar"):
        return f"{name} is no shard of this copy"
    with storage.open_read(storage.join(output, name)) as file:
        piece = file.read(_PIECE)
        if _is_key(piece, known):
            return f"{name} looks like a key: 32 bytes, or 64 hexadecimal digits"
        if _is_weights(piece):
            return f"{name} holds weights of a model"
        before = b""
        while piece:
            if mark := marks.search(before + piece):
                return f"{name} holds {mark[0].decode()!r}, as records and surrogates do"
            before, piece = piece[-_OVERLAP:], file.read(_PIECE)
    return ""


def _is_key(data: bytes, known: Collection[str]) -> bool:
    if _HEX.fullmatch(data):
        return data.decode().strip() not in known
    return len(data) == _KEY_BYTES


def _is_weights(data: bytes) -> bool:
    """Whether it is the start of a safetensors file: a length, and a JSON object of that length."""
    size = int.from_bytes(data[:8], "little")
    if len(data) < 10 or data[8:9] != b"{" or size > 100 << 20:
        return False
    try:
        return size + 8 > len(data) or isinstance(json.loads(data[8 : 8 + size]), dict)
    except (ValueError, RecursionError):
        return False
