"""Manifest: one Parquet file a shard, one row for each input sample."""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, asdict, dataclass, fields
from types import TracebackType
from typing import Annotated, BinaryIO, NamedTuple, Self, get_args, get_type_hints

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import ViolationError
from . import storage

MANIFEST_DIR = "manifest"
MANIFEST_VERSION = "1"
ROW_GROUP = 1024
STATUSES = ("protected", "quarantined")


@dataclass(frozen=True)
class Column:
    """A column of the manifest.

    Attributes:
        name: of the column.
        type: Arrow type.
        text: what it says, for documentation.
        required: whether every row has a value.
    """

    name: str
    type: pa.DataType
    text: str
    required: bool


class _Is(NamedTuple):
    """Arrow type and meaning of a field of `ManifestRow`."""

    type: pa.DataType
    text: str


_TEXT, _INT, _SEED, _FLOAT = pa.string(), pa.int32(), pa.uint64(), pa.float64()
_TOKENS, _SEEDS, _NOTES = pa.list_(_INT), pa.list_(_SEED), pa.list_(_TEXT)


@dataclass(frozen=True, slots=True)
class ManifestRow:
    """What happened to one input sample: the one table of columns, a field each.

    A field without a default has a value in every row.
    """

    key: Annotated[str, _Is(_TEXT, "WebDataset key of the sample")]
    shard: Annotated[str, _Is(_TEXT, "shard name, without .tar")]
    row: Annotated[int, _Is(pa.int64(), "position of the sample in the input shard, from 0")]
    status: Annotated[str, _Is(_TEXT, "protected, or quarantined (not published)")]
    reason: Annotated[str | None, _Is(_TEXT, "why a sample is not protected")] = None
    detail: Annotated[str | None, _Is(_TEXT, "the reason in words")] = None
    input_sha256: Annotated[str | None, _Is(_TEXT, "sha256 of the input image file")] = None
    output_sha256: Annotated[str | None, _Is(_TEXT, "sha256 of the published image file")] = None
    picture_digest: Annotated[
        str | None,
        _Is(_TEXT, "digest of the decoded input pixels; equal for the same picture in other files"),
    ] = None
    width: Annotated[int | None, _Is(_INT, "pixels")] = None
    height: Annotated[int | None, _Is(_INT, "pixels")] = None
    format: Annotated[str | None, _Is(_TEXT, "format of the input image")] = None
    source_ext: Annotated[str | None, _Is(_TEXT, "extension of the input image member")] = None
    image_ext: Annotated[str | None, _Is(_TEXT, "extension of the published image member")] = None
    trigger_tokens: Annotated[list[int] | None, _Is(_TOKENS, "token ids of the trigger")] = None
    trigger_text: Annotated[str | None, _Is(_TEXT, "the words in front of each caption")] = None
    epsilon: Annotated[int | None, _Is(_INT, "largest allowed change, in 8-bit levels")] = None
    linf: Annotated[
        int | None,
        _Is(_INT, "largest change in the decoded published image, in 8-bit levels; see `budget`"),
    ] = None
    l2: Annotated[float | None, _Is(_FLOAT, "Euclidean norm of the change, in 8-bit levels")] = None
    psnr: Annotated[float | None, _Is(_FLOAT, "peak signal-to-noise ratio, in dB")] = None
    ssim: Annotated[float | None, _Is(_FLOAT, "structural similarity, 1 when equal")] = None
    batch: Annotated[int | None, _Is(_INT, "index of the batch in the shard")] = None
    batch_seed: Annotated[int | None, _Is(_SEED, "seed of the batch")] = None
    shuffle_seeds: Annotated[
        list[int] | None, _Is(_SEEDS, "seed of each step's caption order; empty without a shuffle")
    ] = None
    loss_before: Annotated[
        float | None, _Is(_FLOAT, "surrogate loss of the sample as it came, where measured")
    ] = None
    loss_after: Annotated[
        float | None, _Is(_FLOAT, "surrogate loss of the sample as published, where measured")
    ] = None
    surrogate_sha256: Annotated[str | None, _Is(_TEXT, "sha256 of the surrogate's weights")] = None
    pictures: Annotated[
        int | None, _Is(_INT, "pictures of the sample; the row's figures are those of the first")
    ] = None
    notes: Annotated[
        list[str] | None, _Is(_NOTES, "what was converted or left out, and that it is repeated")
    ] = None


def _columns() -> tuple[Column, ...]:
    hints = get_type_hints(ManifestRow, include_extras=True)
    required = {item.name for item in fields(ManifestRow) if item.default is MISSING}
    told = {name: get_args(hint)[1] for name, hint in hints.items()}
    return tuple(Column(name, is_.type, is_.text, name in required) for name, is_ in told.items())


COLUMNS = _columns()
SCHEMA = pa.schema([pa.field(c.name, c.type, nullable=not c.required) for c in COLUMNS])
# Version 0.1.0 wrote manifests without these; they are read as if nothing stood in them.
_ADDED = frozenset({"detail", "picture_digest", "pictures", "notes"})


def manifest_url(record: str, shard: str) -> str:
    """Return where the manifest of ``shard`` lies under the URL of a record."""
    return storage.join(record, MANIFEST_DIR, f"{shard}.parquet")


class ManifestWriter:
    """Write rows to a local Parquet file; equal rows and metadata give equal bytes.

    Rows are written in groups of ``ROW_GROUP``, so memory does not depend on their number. Used as
    a context manager it removes the file when the block fails.

    Args:
        path: local file to write.
        metadata: text by key; ``manifest_version`` is added.

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


class ManifestReader:
    """Iterate over the rows of a manifest, holding one group of rows at a time.

    Attributes:
        metadata: text by key.
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
        wanted = [column for column in SCHEMA if column.name not in _ADDED - set(schema.names)]
        if not schema.equals(pa.schema(wanted)):
            names = set(SCHEMA.names) - _ADDED ^ set(schema.names) - _ADDED
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
