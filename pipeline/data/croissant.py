"""Croissant 1.1 description of a published corpus (mlcommons.org/croissant/1.1)."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

from .json_pieces import json_pieces
from .ledger import LedgerRecord
from .statements import Statements

_SHARDS = "shards"
# The list that has an entry for each shard; what a reader of the head needs stands before it.
FILES = "distribution"
_SHARD_FILES = {
    "@type": "cr:FileSet",
    "@id": _SHARDS,
    "name": _SHARDS,
    "description": "WebDataset shards: an image and its captions under each key.",
    "encodingFormat": "application/x-tar",
    "includes": "*.tar",
}
_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "duo": "http://purl.obolibrary.org/obo/DUO_",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "name": {"@container": "@language"},
    "odrl": "http://www.w3.org/ns/odrl/2/",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "prov": "http://www.w3.org/ns/prov#",
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
    "tdm": "http://www.w3.org/ns/tdmrep#",
    "transform": "cr:transform",
}


def croissant_pieces(
    records: Iterable[LedgerRecord],
    statements: Statements,
    *,
    reserved: bool,
    description: str,
    published: str,
    sources: Sequence[str],
    activity: str,
    program: str,
) -> Iterator[bytes]:
    """Yield the JSON-LD of an output: its shards with checksums, its provenance, its conditions.

    Args:
        records: the committed shards, in the order of the plan.
        statements: what the owner states.
        reserved: whether text and data mining is reserved.
        description: what it is.
        published: day, ISO 8601.
        sources: names or URLs of what it was made from.
        activity: what was done to them.
        program: name and version of what did it.
    """
    stated = statements.croissant(reserved=reserved)
    owner, title = stated["creator"]["name"], stated["name"]
    document = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "description": description,
        "citeAs": f"{owner} ({published[:4]}). {title}, made by {program}.",
        "url": "README.md",
        "version": "1.0.0",
        "datePublished": published,
        **stated,
        "isBasedOn": [{"@type": "sc:CreativeWork", "name": name} for name in sources],
        "prov:wasDerivedFrom": [{"@type": "prov:Entity", "prov:label": name} for name in sources],
        "prov:wasGeneratedBy": {
            "@type": "prov:Activity",
            "prov:label": activity,
            "prov:wasAssociatedWith": {"@type": "prov:SoftwareAgent", "prov:label": program},
        },
        "prov:wasAttributedTo": {"@type": "prov:Agent", "prov:label": owner},
        FILES: [],
    }
    files = map(_file, records)
    yield from json_pieces(document, FILES, chain(files, [_SHARD_FILES]), ensure_ascii=False)
    yield b"\n"


def _file(record: LedgerRecord) -> dict[str, Any]:
    name = f"{record.shard}.tar"
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "contentUrl": name,
        "contentSize": f"{record.shard_size} B",
        "encodingFormat": "application/x-tar",
        "sha256": record.shard_sha256,
    }
