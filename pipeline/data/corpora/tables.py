"""Tables of captions: CSV, TSV, JSONL or Parquet rows of an image file and its captions."""

import csv
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from ...errors import UsageError
from .source import check_text, not_utf8, numbered_lines

FILE_COLUMNS = ("file", "image", "file_name", "filename")
CAPTION_COLUMNS = ("caption", "captions", "text")


class CaptionRow(NamedTuple):
    """``place`` names table and line for messages; ``file`` is relative to the image folder.

    ``captions`` has no empty ones, and is empty where there were no others.
    """

    place: str
    file: str
    captions: list[str]


def find_table(folder: Path) -> Path:
    """Return the one ``captions.*`` table in a folder. Raises UsageError for none or several."""
    found = sorted(path for path in folder.glob("captions.*") if path.suffix.lower() in _READERS)
    if not found:
        raise UsageError(
            f"{folder} must hold one captions.csv, .tsv, .jsonl or .parquet (found: none); write "
            "one with the columns image,caption, or name it with --captions. File names are not "
            "taken as captions: they say too little, and a model would not train on them"
        )
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise UsageError(
            f"{folder} must hold one captions.csv, .tsv, .jsonl or .parquet (found: {names}); "
            "name the table with --captions"
        )
    return found[0]


def read_table(path: Path) -> Iterator[CaptionRow]:
    """Yield the rows of a table.

    Raises:
        UsageError: missing file, unknown kind, missing columns, malformed row; it names the file
            and the line.
    """
    read = _READERS.get(path.suffix.lower())
    if read is None:
        raise UsageError(f"{path}: captions must be .csv, .tsv, .jsonl or .parquet")
    if not path.is_file():
        raise UsageError(f"{path} does not exist; name the table of captions with --captions")
    try:
        for place, row in read(path):
            yield _parse(place, row)
    except UnicodeDecodeError as error:
        raise not_utf8(path) from error


def read_pairs(path: Path) -> Iterator[CaptionRow]:
    """Yield the rows of a CSV file with an image and a caption column, whatever its extension.

    Captions may be empty.

    Raises:
        UsageError: unreadable file, missing columns, malformed row; it names the file and the line.
    """
    try:
        for place, row in _read_csv(path):
            file, caption = _pick(place, row, FILE_COLUMNS), _pick(place, row, CAPTION_COLUMNS)
            if "\n" in caption:
                raise UsageError(f"{place}: the caption has a line break; is a quote not closed?")
            yield CaptionRow(place, file, [caption])
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise not_utf8(path) from error


def read_tokens(path: Path) -> Iterator[CaptionRow]:
    """Yield the rows of a ``.token`` file, ``NAME.jpg#N<TAB>caption``, as Flickr8K and 30K have it.

    Raises:
        UsageError: unreadable file, malformed row, a repeated ``NAME.jpg#N``; it names the line.
    """
    first: dict[tuple[str, str], str] = {}
    for place, line in numbered_lines(path):
        match = re.fullmatch(r"([^\t#]+)#(\d+)(?:\t(.*))?", line)
        if match is None:
            raise UsageError(
                f"{place}: not of the form NAME.jpg#N, a tab, a caption: {line[:60]!r}"
            )
        file, number, caption = match.groups()
        refuse_repeated(first, place, file, number)
        yield CaptionRow(place, file, [caption or ""])


def refuse_repeated(first: dict[tuple[str, str], str], place: str, file: str, number: str) -> None:
    """Raise UsageError when caption ``number`` of ``file`` is in ``first``, else add it there."""
    before = first.setdefault((file, number), place)
    if before != place:
        raise UsageError(f"{place}: caption {number} of {file} comes a second time, after {before}")


def _parse(place: str, row: Mapping[str, Any]) -> CaptionRow:
    file = _pick(place, row, FILE_COLUMNS)
    captions = _pick(place, row, CAPTION_COLUMNS)
    captions = [captions] if isinstance(captions, str) else captions
    if not isinstance(file, str) or not file:
        raise UsageError(f"{place}: the image file must be a text, not {file!r}")
    if not isinstance(captions, list) or not all(isinstance(text, str) for text in captions):
        raise UsageError(f"{place}: the caption must be a text or a list of texts")
    for text in captions:
        check_text(f"{place}: the caption", text)
    return CaptionRow(place, file, [text.strip() for text in captions if text.strip()])


def _pick(place: str, row: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    for name in names:
        if row.get(name) is not None:
            return row[name]
    wanted = f"{', '.join(names[:-1])} or {names[-1]}"
    if any(name in row for name in names):
        raise UsageError(f"{place}: no value in a column {wanted}; fill it in or delete the row")
    found = ", ".join(map(str, row))
    raise UsageError(f"{place}: no value in a column {wanted}; the columns are {found}: rename one")


def _read_csv(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        delimiter = _delimiter(file.readline())
        file.seek(0)
        reader = csv.DictReader(file, delimiter=delimiter, strict=True)
        line = 1
        try:
            # The header is read first, so that `line` is where the first row starts.
            _ = reader.fieldnames
            line = reader.line_num + 1
            for row in reader:
                place = f"{path} line {reader.line_num}"
                if None in row:
                    hint = f"put quotes around text with {delimiter!r}"
                    raise UsageError(f"{place}: more values than columns; {hint}")
                yield place, row
                line = reader.line_num + 1
        except csv.Error as error:
            # A quote that is not closed runs on: the mistake is where its row starts.
            raise UsageError(f"{path} line {line}: {error}") from error


def _delimiter(header: str) -> str:
    """Return what separates the columns that ``header`` names: comma, semicolon, tab or bar."""
    try:
        return csv.Sniffer().sniff(header, delimiters=",;\t|").delimiter
    except csv.Error:
        return ","


def _read_jsonl(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            place = f"{path} line {number}"
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise UsageError(f"{place}: not JSON ({error})") from error
            if not isinstance(row, dict):
                raise UsageError(f"{place}: each line must be a JSON object")
            yield place, row


def _read_parquet(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        with pq.ParquetFile(path) as file:
            known = (*FILE_COLUMNS, *CAPTION_COLUMNS)
            wanted = [name for name in file.schema_arrow.names if name in known]
            number = 0
            for batch in file.iter_batches(columns=wanted):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path} row {number}", row
    # Arrow reports some damages as OSError.
    except (pa.ArrowException, OSError) as error:
        raise UsageError(f"{path} is not a readable Parquet file ({error})") from error


_READERS = {
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
}
