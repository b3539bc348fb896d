"""Checks of a published copy that a reader can make, without the record that its owner keeps."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import Any

from ..data import storage
from ..data.captions import DEFAULT_FIELDS, read_captions
from ..data.card import CROISSANT_NAME, README_NAME
from ..data.croissant import FILES
from ..data.images import decode, image_member, image_members
from ..data.ledger import INDEX_NAME, PUBLISHED_NAME, SUCCESS_NAME
from ..data.plan import ShardInput
from ..data.shards import Sample, open_shard
from ..errors import SampleError, ShardError, UsageError
from .findings import Findings
from .picture_checks import Problem, check_shown, unreadable

UNCHECKED = (
    "by how much images were changed: that needs the record, and --against",
    "the triggers of the captions: the record has them",
    "whether samples or shards are missing that the index does not list: the record has them",
)
"""What nobody can check without the record."""

_CHUNK = 8


def read_entries(
    output: str, findings: Findings
) -> tuple[dict[str, dict[str, Any]], tuple[str, ...], bool]:
    """Return what the index says of each shard, by name without ``.tar``; check the marks.

    Returns:
        the entries, the fields of ``.json`` members that hold captions, and whether samples may
        hold several pictures.

    Raises:
        UsageError: there is no index that can be read.
    """
    url = storage.join(output, INDEX_NAME)
    try:
        data = storage.read_bytes(url)
        index = json.loads(data)
        entries = {_name_of(entry): entry for entry in index["shardlist"]}
        fields = tuple(map(str, index.get("caption_fields") or DEFAULT_FIELDS))
    except (OSError, ValueError, RecursionError, KeyError, TypeError) as error:
        raise UsageError(
            f"{output} cannot be checked: there is no record beside it, and no list of its shards "
            f"({url}: {error!r}); give --record, or the folder that protect wrote"
        ) from error
    if entries and not sum(int(entry["nsamples"]) for entry in entries.values()):
        findings.add("nothing_protected", "", "", f"{INDEX_NAME} lists no sample")
    if len(entries) != len(index["shardlist"]):
        findings.add("index_mismatch", "", "", f"{INDEX_NAME} lists a shard twice")
    digest = hashlib.sha256(data).hexdigest()
    _check_marks(output, digest, findings)
    return entries, fields, index.get("images") == "all"


def _name_of(entry: Mapping[str, Any]) -> str:
    """Return the name of a shard. Raises KeyError, TypeError or ValueError for odd entries."""
    name, _, end = str(entry["url"]).rpartition(".")
    if end != "tar" or not name or "/" in name or name.startswith("."):
        raise ValueError(f"a shard at {entry['url']!r}")
    int(entry["nsamples"]), int(entry["filesize"]), str(entry["sha256"])
    return name


def _check_marks(output: str, digest: str, findings: Findings) -> None:
    try:
        mark = storage.read_bytes(storage.join(output, SUCCESS_NAME)).decode(errors="replace")
        if mark.strip() != digest:
            message = f"{SUCCESS_NAME} is the mark of another {INDEX_NAME}"
            findings.add("not_finished", "", "", message)
    except OSError:
        findings.add("not_finished", "", "", f"{SUCCESS_NAME} is missing")
    try:
        published = json.loads(storage.read_bytes(storage.join(output, PUBLISHED_NAME)))
        found = published["index_sha256"]
    except FileNotFoundError:
        return
    except (OSError, ValueError, RecursionError, KeyError, TypeError) as error:
        found = repr(error)
    if found != digest:
        findings.add("mark_mismatch", "", "", f"{PUBLISHED_NAME}: {found}, not {digest}")


def check_files(output: str, entries: Mapping[str, Mapping[str, Any]], findings: Findings) -> None:
    """Compare the names of the shards, and the card, with the index."""
    for name in storage.list_names(output):
        if name.endswith(".tar") and name.removesuffix(".tar") not in entries:
            findings.add("unexpected_file", "", "", f"{name} is not in {INDEX_NAME}")
    if not storage.exists(storage.join(output, README_NAME)):
        findings.add("card_mismatch", "", "", f"{README_NAME} is missing")
    try:
        card = json.loads(storage.read_bytes(storage.join(output, CROISSANT_NAME)))
        told = {item["@id"]: item.get("sha256") for item in card[FILES]}
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        findings.add("card_mismatch", "", "", f"{CROISSANT_NAME} cannot be read ({error!r})")
        return
    for name, entry in entries.items():
        if told.get(f"{name}.tar") != entry["sha256"]:
            message = f"{CROISSANT_NAME} differs from {INDEX_NAME}"
            findings.add("card_mismatch", name, "", message)


def shard_of(name: str, entry: Mapping[str, Any]) -> ShardInput:
    """Return a shard with the size and, as its mark, the sha256 that the index states."""
    return ShardInput(name, "", int(entry["filesize"]), str(entry["sha256"]))


def check_as_reader(
    output: str,
    shard: ShardInput,
    pool: ThreadPoolExecutor,
    findings: Findings,
    fields: Sequence[str],
    max_pixels: int,
    *,
    several: bool,
) -> None:
    """Read one shard to its end: the archive, every image and every caption, size and sha256.

    Args:
        output: URL of the copy.
        shard: as `shard_of` returns it.
        pool: threads that decode.
        findings: added to.
        fields: JSON fields that hold captions.
        max_pixels: limit of what is decoded.
        several: whether the index says that all pictures of a sample are protected.
    """
    url = storage.join(output, f"{shard.name}.tar")
    try:
        with open_shard(url) as reader:
            for key, problems in _checked(reader, pool, fields, max_pixels, several=several):
                findings.samples += 1
                for code, message in problems:
                    findings.add(code, shard.name, key, message)
            found = reader.sha256, reader.size
    except (ShardError, OSError) as error:
        findings.add("shard_unreadable", shard.name, "", str(error))
        return
    if found != (shard.etag, shard.size):
        message = f"sha256 and size {found}, the index says {(shard.etag, shard.size)}"
        findings.add("shard_changed", shard.name, "", message)


def _checked(
    samples: Iterable[Sample],
    pool: ThreadPoolExecutor,
    fields: Sequence[str],
    max_pixels: int,
    *,
    several: bool,
) -> Iterator[tuple[str, list[Problem]]]:
    waiting = iter(samples)
    check = partial(_problems, fields=fields, max_pixels=max_pixels, several=several)
    while chunk := list(islice(waiting, _CHUNK)):
        yield from zip((sample.key for sample in chunk), pool.map(check, chunk), strict=True)


def _problems(
    sample: Sample, fields: Sequence[str], max_pixels: int, *, several: bool
) -> list[Problem]:
    if sample.problem is not None:
        return [("sample_unreadable", str(sample.problem))]
    found: list[Problem] = []
    try:
        image_member(sample, several=several)
        for picture in image_members(sample):
            found += check_shown(decode(picture.data, max_pixels))
    except SampleError as error:
        found.append(unreadable(error))
    try:
        read_captions(sample, fields)
    except SampleError as error:
        found.append(("caption_unreadable", str(error)))
    return found
