"""Manifest: one Parquet file a shard, one row for each input sample."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from types import TracebackType
from typing import BinaryIO, Self

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import ViolationError
from . import storage

MANIFEST_DIR = "manifest"
MANIFEST_VERSION = "1"
ROW_GROUP = 1024
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
    "budget",
    "surrogate_sha256",
    "passes",
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
    "linf": "largest change in the decoded published image, in 8-bit levels; see `budget`",
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


@dataclass(frozen=True, slots=True)
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


class ManifestWriter:
    """Write rows to a local Parquet file; equal rows and metadata give equal bytes.

    Rows are written in groups of ``ROW_GROUP``, so memory does not depend on their number. Used as
    a context manager it removes the file when the block fails.

    Args:
        path: local file to write.
        metadata: text by key, see ``METADATA_KEYS``; ``manifest_version`` is added.

    Raises:
        UsageError: no space or no permission.
    """

    def __init__(self, path: str | os.PathLike[str], metadata: Mapping[str, str]) -> None:
        self._path = os.fspath(path)
        self._waiting: list[ManifestRow] = []
        entries = dict(sorted({**metadata, "manifest_version": MANIFEST_VERSION}.items()))
        self._schema = SCHEMA.with_metadata(entries)
        with storage.explained(self._path):
            # Arrow's own files report a full disk without its error number.
            self._file = open(self._path, "wb")  # noqa: SIM115 - closed by close() or abort()
            self._parquet = pq.ParquetWriter(self._file, self._schema, compression="zstd")

    def write(self, row: ManifestRow) -> None:
        """Append ``row``; rows come in input order."""
        self._waiting.append(row)
        if len(self._waiting) == ROW_GROUP:
            self._flush()

    def add_metadata(self, metadata: Mapping[str, str]) -> None:
        """Add text by key that is known only once the rows are, before `close`."""
        self._parquet.add_key_value_metadata(dict(metadata))

    def close(self) -> tuple[str, int]:
        """End the file; return its (sha256, size in bytes)."""
        if self._waiting:
            self._flush()
        with storage.explained(self._path):
            self._parquet.close()
            self._file.close()
        with open(self._path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest(), os.path.getsize(self._path)

    def abort(self) -> None:
        """Close and delete the unfinished file."""
        # What could not be written is deleted anyway.
        with contextlib.suppress(OSError, pa.ArrowException):
            self._parquet.close()
        with contextlib.suppress(OSError):
            self._file.close()
        if os.path.isfile(self._path):
            os.unlink(self._path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self.abort()
        elif not self._file.closed:
            self.close()

    def _flush(self) -> None:
        table = pa.Table.from_pylist([asdict(row) for row in self._waiting], schema=self._schema)
        self._waiting.clear()
        with storage.explained(self._path):
            self._parquet.write_table(table)


def write_manifest(
    path: str | os.PathLike[str], rows: Iterable[ManifestRow], metadata: Mapping[str, str]
) -> tuple[str, int]:
    """Write all ``rows`` to one manifest; return its (sha256, size in bytes)."""
    with ManifestWriter(path, metadata) as writer:
        for row in rows:
            writer.write(row)
        return writer.close()


class ManifestReader:
    """Iterate over the rows of a manifest, holding one group of rows at a time.

    Attributes:
        metadata: text by key, see ``METADATA_KEYS``.
        sha256: hex digest of the file.
        size: bytes of the file.

    Raises (also while iterating):
        ViolationError: damaged, of another version, or with other columns.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._name = name
        digest = hashlib.sha256()
        file.seek(0)
        while chunk := file.read(1 << 20):
            digest.update(chunk)
        self.sha256, self.size = digest.hexdigest(), file.tell()
        with self._readable():
            self._parquet = pq.ParquetFile(file)
            schema = self._parquet.schema_arrow
            # Not the schema's own: what was added at the end of the file stands beside it.
            entries = self._parquet.metadata.metadata or {}
            self.metadata = {
                k.decode(): v.decode() for k, v in entries.items() if k != b"ARROW:schema"
            }
        found = self.metadata.get("manifest_version")
        if found != MANIFEST_VERSION:
            raise ViolationError(
                f"{name} has manifest version {found}, this program reads {MANIFEST_VERSION}"
            )
        if not schema.equals(SCHEMA):
            names = {item.name for item in fields(ManifestRow)} ^ set(schema.names)
            found = ", ".join(sorted(names)) or "types differ"
            raise ViolationError(f"{name} does not have the columns of a manifest ({found})")

    def __iter__(self) -> Iterator[ManifestRow]:
        batches = self._parquet.iter_batches(ROW_GROUP)
        while True:
            with self._readable():
                batch = next(batches, None)
                rows = [] if batch is None else batch.to_pylist()
            if batch is None:
                return
            for row in rows:
                yield ManifestRow(**row)

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        # Arrow reports some damages as OSError, and metadata need not be text.
        except (pa.ArrowException, ValueError, OSError) as error:
            raise ViolationError(f"{self._name} is not a readable manifest ({error})") from error


@contextmanager
def open_manifest(url: str) -> Iterator[ManifestReader]:
    """Open the manifest at ``url``, copied to a local temporary file: its end is read first.

    Raises:
        OSError: it cannot be fetched.
        ViolationError: it is not a manifest that this program reads.
        UsageError: no space for the temporary file.
    """
    with tempfile.TemporaryFile() as file:
        with storage.open_read(url) as source, storage.explained(tempfile.gettempdir()):
            shutil.copyfileobj(source, file, 1 << 20)
        yield ManifestReader(file, url)


def read_manifest(url: str) -> tuple[list[ManifestRow], dict[str, str]]:
    """Return all rows and the metadata of the manifest at ``url``; raises as `open_manifest`."""
    with open_manifest(url) as manifest:
        return list(manifest), manifest.metadata
