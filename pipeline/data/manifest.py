"""Manifest: one Parquet file a shard, one row for each input sample."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import ViolationError
from . import storage

MANIFEST_DIR = "manifest"
MANIFEST_VERSION = "1"
METADATA_KEYS = (
    "manifest_version",
    "version",
    "shard",
    "config",
    "config_hash",
    "tokenizer",
    "context_length",
    "trigger_words",
    "epsilon",
    "surrogate_sha256",
)
STATUSES = ("protected", "passed", "quarantined")


def _field(name: str, kind: pa.DataType, *, required: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable=not required)


SCHEMA = pa.schema(
    [
        _field("key", pa.string(), required=True),
        _field("shard", pa.string(), required=True),
        _field("row", pa.int64(), required=True),
        _field("status", pa.string(), required=True),
        _field("reason", pa.string()),
        _field("input_sha256", pa.string()),
        _field("output_sha256", pa.string()),
        _field("width", pa.int32()),
        _field("height", pa.int32()),
        _field("format", pa.string()),
        _field("source_ext", pa.string()),
        _field("image_ext", pa.string()),
        _field("trigger_tokens", pa.list_(pa.int32())),
        _field("trigger_text", pa.string()),
        _field("epsilon", pa.int32()),
        _field("linf", pa.int32()),
        _field("l2", pa.float64()),
        _field("psnr", pa.float64()),
        _field("ssim", pa.float64()),
        _field("batch", pa.int32()),
        _field("batch_seed", pa.uint64()),
        _field("shuffle_seeds", pa.list_(pa.uint64())),
        _field("loss_before", pa.float64()),
        _field("loss_after", pa.float64()),
        _field("surrogate_sha256", pa.string()),
    ]
)

COLUMN_DESCRIPTIONS = {
    "key": "WebDataset key of the sample",
    "shard": "shard name, without .tar",
    "row": "position of the sample in the input shard, from 0",
    "status": "protected, passed (published unchanged) or quarantined (not published)",
    "reason": "why a sample is not protected",
    "input_sha256": "sha256 of the input image file",
    "output_sha256": "sha256 of the published image file",
    "width": "pixels",
    "height": "pixels",
    "format": "format of the input image",
    "source_ext": "extension of the input image member",
    "image_ext": "extension of the published image member",
    "trigger_tokens": "token ids of the trigger",
    "trigger_text": "the words in front of each caption",
    "epsilon": "largest allowed change, in 8-bit levels",
    "linf": "largest change in the decoded published image, in 8-bit levels",
    "l2": "Euclidean norm of the change, in 8-bit levels",
    "psnr": "peak signal-to-noise ratio, in dB",
    "ssim": "structural similarity, 1 when equal",
    "batch": "index of the batch in the shard",
    "batch_seed": "seed of the batch",
    "shuffle_seeds": "seed of the caption order in each step",
    "loss_before": "surrogate loss of the sample before protection",
    "loss_after": "surrogate loss of the sample after protection",
    "surrogate_sha256": "sha256 of the surrogate's weights",
}


@dataclass(frozen=True)
class ManifestRow:
    """What happened to one input sample; the columns are described in ``COLUMN_DESCRIPTIONS``."""

    key: str
    shard: str
    row: int
    status: str
    reason: str | None = None
    input_sha256: str | None = None
    output_sha256: str | None = None
    width: int | None = None
    height: int | None = None
    format: str | None = None
    source_ext: str | None = None
    image_ext: str | None = None
    trigger_tokens: list[int] | None = None
    trigger_text: str | None = None
    epsilon: int | None = None
    linf: int | None = None
    l2: float | None = None
    psnr: float | None = None
    ssim: float | None = None
    batch: int | None = None
    batch_seed: int | None = None
    shuffle_seeds: list[int] | None = None
    loss_before: float | None = None
    loss_after: float | None = None
    surrogate_sha256: str | None = None


def manifest_url(output: str, shard: str) -> str:
    """Return where the manifest of ``shard`` lies under an output prefix."""
    return storage.join(output, MANIFEST_DIR, f"{shard}.parquet")


def encode_manifest(rows: Iterable[ManifestRow], metadata: Mapping[str, str]) -> bytes:
    """Return the Parquet file; equal rows and metadata give equal bytes.

    Args:
        rows: in input order.
        metadata: text by key, see ``METADATA_KEYS``; ``manifest_version`` is added.
    """
    entries = dict(sorted({**metadata, "manifest_version": MANIFEST_VERSION}.items()))
    table = pa.Table.from_pylist(
        [asdict(row) for row in rows], schema=SCHEMA.with_metadata(entries)
    )
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def decode_manifest(
    data: bytes, name: str = "manifest"
) -> tuple[list[ManifestRow], dict[str, str]]:
    """Return rows and metadata of a Parquet file.

    Raises:
        ViolationError: damaged, of another version, or with other columns.
    """
    try:
        table = pq.read_table(io.BytesIO(data), partitioning=None)
        metadata = {
            key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()
        }
        found = metadata.get("manifest_version")
        if found != MANIFEST_VERSION:
            raise ViolationError(
                f"{name} has manifest version {found}, this program reads {MANIFEST_VERSION}"
            )
        if not table.schema.equals(SCHEMA):
            names = {item.name for item in fields(ManifestRow)} ^ set(table.schema.names)
            found = ", ".join(sorted(names)) or "types differ"
            raise ViolationError(f"{name} does not have the columns of a manifest ({found})")
        return [ManifestRow(**row) for row in table.to_pylist()], metadata
    except (pa.ArrowException, ValueError) as error:
        raise ViolationError(f"{name} is not a readable manifest ({error})") from error


def read_manifest(url: str) -> tuple[list[ManifestRow], dict[str, str]]:
    """Read the manifest at ``url``. Raises OSError or ViolationError."""
    return decode_manifest(storage.read_bytes(url), url)
