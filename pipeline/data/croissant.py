"""Croissant 1.0 description of a published corpus (mlcommons.org/croissant/1.0)."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import pyarrow as pa

from .json_pieces import json_pieces
from .ledger import LedgerRecord
from .manifest import COLUMNS, MANIFEST_DIR, Column

_MANIFESTS = "manifests"
_RECORDS = "samples"
# The list that has two entries for each shard; what a reader of the head needs stands before it.
FILES = "distribution"
_MANIFEST_FILES = {
    "@type": "cr:FileSet",
    "@id": _MANIFESTS,
    "name": _MANIFESTS,
    "description": "One row for each sample that was read.",
    "encodingFormat": "application/x-parquet",
    "includes": f"{MANIFEST_DIR}/*.parquet",
}
_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}


def croissant_pieces(
    records: Iterable[LedgerRecord],
    *,
    title: str,
    description: str,
    owner: str,
    published: str,
    sources: Sequence[str],
    cite_as: str,
) -> Iterator[bytes]:
    """Yield the JSON-LD of an output: its shards and manifests with checksums, its columns.

    Args:
        records: the committed shards, in the order of the plan.
        title: name of the dataset.
        description: what it is.
        owner: who publishes it.
        published: day, ISO 8601.
        sources: names of what it was made from.
        cite_as: how to cite it.
    """
    document = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": title,
        "description": description,
        "citeAs": cite_as,
        "license": "As stated by the owner; see README.md.",
        "url": "README.md",
        "version": "1.0.0",
        "datePublished": published,
        "creator": {"@type": "sc:Organization", "name": owner},
        "isBasedOn": [{"@type": "sc:CreativeWork", "name": name} for name in sources],
        FILES: [],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": _RECORDS,
                "name": _RECORDS,
                "description": "The manifests' columns.",
                "key": [{"@id": f"{_RECORDS}/shard"}, {"@id": f"{_RECORDS}/key"}],
                "field": [_field(column) for column in COLUMNS],
            }
        ],
    }
    files = (file for record in records for file in _files(record))
    yield from json_pieces(document, FILES, chain(files, [_MANIFEST_FILES]), ensure_ascii=False)
    yield b"\n"


def _files(record: LedgerRecord) -> list[dict[str, Any]]:
    names = {
        f"{record.shard}.tar": ("application/x-tar", record.shard_sha256, record.shard_size),
        f"{MANIFEST_DIR}/{record.shard}.parquet": (
            "application/x-parquet",
            record.manifest_sha256,
            record.manifest_size,
        ),
    }
    return [
        {
            "@type": "cr:FileObject",
            "@id": name,
            "name": name,
            "contentUrl": name,
            "contentSize": f"{size} B",
            "encodingFormat": kind,
            "sha256": sha256,
        }
        for name, (kind, sha256, size) in names.items()
    ]


def _field(column: Column) -> dict[str, Any]:
    repeated = pa.types.is_list(column.type)
    kind = column.type.value_type if repeated else column.type
    number = "sc:Integer" if pa.types.is_integer(kind) else "sc:Float"
    field = {
        "@type": "cr:Field",
        "@id": f"{_RECORDS}/{column.name}",
        "name": column.name,
        "description": column.text,
        "dataType": "sc:Text" if pa.types.is_string(kind) else number,
        "source": {"fileSet": {"@id": _MANIFESTS}, "extract": {"column": column.name}},
    }
    return {**field, "repeated": True} if repeated else field
