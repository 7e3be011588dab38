"""CSV, JSON Lines, JSON and Parquet, read as one record after another; each says where it stands in the file.

The libraries' readers are not used for text files: they pad short rows, and name no line for what they drop.
"""

from __future__ import annotations

import codecs
import csv
import itertools
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow
from datasets import ClassLabel, Features
from pyarrow import parquet

from helpers.runtime import UserError

FORMATS = (".csv", ".tsv", ".jsonl", ".json", ".parquet")
SEPARATORS = (",", ";", "\t", "|")
CHUNK = 2**20  # bytes looked at together
LINE_LIMIT = 10_000_000  # bytes: a text of a million words is still shorter
JSON_LIMIT = 100_000_000  # bytes of a list of rows, which has to be read at once
SAMPLE = 20  # lines by which the separator is found
MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


class Record(NamedTuple):
    """One row: where it stands, as "line 5" or "row 5"; its values, or why it cannot be read."""

    place: str
    values: dict[str, object]
    problem: str = ""


def records(path: Path, encoding: str = "", separator: str = "") -> Iterator[Record]:
    """Every row of the file, the unreadable ones included.

    Raises:
        UserError: when the file cannot be read as a whole; a line is longer than 10 million bytes, is not in this
            encoding, or opens a quote that runs into the following rows.
    """
    if path.suffix.lower() == ".parquet":
        return _parquet(path)
    if _is_json_list(path):
        return _json_list(path, encoding)
    encoding = check_text(path, encoding)
    csv.field_size_limit(LINE_LIMIT)  # Python's own limit of 131,072 characters would refuse a long text
    if path.suffix.lower() in (".json", ".jsonl"):
        return _json_lines(path, encoding)
    return _csv(path, encoding, separator or ("\t" if path.suffix.lower() == ".tsv" else _separator(path, encoding)))


def check_text(path: Path, encoding: str = "") -> str:
    """The encoding to read a text file with: the one given, the one its byte-order mark names, or UTF-8.

    The file is looked through a megabyte at a time, so that no line can fill the memory.

    Raises:
        UserError: naming the line, when it is too long, does not fit the encoding, or is no text.
    """
    with path.open("rb") as file:
        start = file.read(CHUNK)
        marked = next((name for mark, name in MARKS.items() if start.startswith(mark)), "utf-8")
        if not encoding or encoding.startswith(marked.removesuffix("-sig")):
            encoding = marked
        if b"\0" in start and not encoding.startswith(("utf-16", "utf-32")):
            raise _no_text(path, start)
        decoder, line, length = codecs.getincrementaldecoder(encoding)(), 1, 0
        file.seek(0)
        while chunk := file.read(CHUNK):
            _decode(decoder, chunk, path, encoding, line)
            line, length = _measure(chunk, path, line, length)
        _decode(decoder, b"", path, encoding, line)
    return encoding


def _no_text(path: Path, start: bytes) -> UserError:
    if start[1::2].count(0) > 0.6 * len(start) / 2:  # Latin letters in UTF-16: every second byte is zero
        return UserError(f'data: {path.name} looks like UTF-16; say so: data="{path.name}?encoding=utf-16-le".')
    return UserError(f"data: {path.name} is no text file, whatever its ending says; save it as CSV, UTF-8.")


def _measure(chunk: bytes, path: Path, line: int, length: int) -> tuple[int, int]:
    """Count on from (line, its length so far); a UserError when a line outgrows the limit."""
    for number, piece in enumerate(chunk.replace(b"\r", b"\n").split(b"\n")):
        length = len(piece) if number else length + len(piece)
        if length > LINE_LIMIT:
            at = line + chunk[: chunk.find(piece)].count(b"\n")
            raise UserError(
                f"data: {path.name}, line {at} is longer than {LINE_LIMIT // 1_000_000} million bytes, too long for "
                "a lesson; check whether its line end or quotes are missing, then cut or remove it."
            )
    return line + chunk.count(b"\n"), length


def _decode(decoder: codecs.IncrementalDecoder, chunk: bytes, path: Path, encoding: str, line: int) -> None:
    try:
        decoder.decode(chunk, final=not chunk)
    except UnicodeDecodeError as error:
        at = line + error.object[: error.start].count(b"\n")
        other = "cp1252" if encoding.startswith("utf") else "utf-8"
        raise UserError(
            f"data: {path.name}, line {at} is not {encoding.removesuffix('-sig').upper()} (byte "
            f"0x{error.object[error.start]:02x}); save the file as UTF-8, or name its encoding: "
            f'data="{path.name}?encoding={other}".'
        ) from None
    except UnicodeError as error:  # such as UTF-16 without its mark
        raise UserError(
            f"data: {path.name} is not {encoding.upper()} ({error}); leave the encoding out, or name the right one."
        ) from None


def _separator(path: Path, encoding: str) -> str:
    """The separator under which most of the first rows have as many fields as the header."""
    with path.open(encoding=encoding, newline="") as file:
        lines = [line[:CHUNK] for line in itertools.islice(file, SAMPLE)]

    def agreement(separator: str) -> tuple[int, int]:
        header, *rows = [row for row in csv.reader(lines, delimiter=separator) if row] or [[]]
        return sum(len(row) == len(header) > 1 for row in rows), len(header)

    return max(SEPARATORS, key=agreement)


def _csv(path: Path, encoding: str, separator: str) -> Iterator[Record]:
    header: list[str] = []
    with path.open(encoding=encoding, newline="") as file:
        reader = csv.reader(file, delimiter=separator, strict=True)
        while True:
            first = reader.line_num + 1
            place = f"line {first}"
            try:
                row = next(reader, None)
            except csv.Error as error:
                yield Record(place, {}, _quotes(path, first, reader.line_num, error))
                continue
            if row is None:
                return
            if not header:
                header = _header(path, row)
            elif len(row) == len(header):
                yield Record(place, dict(zip(header, row, strict=True)))
            elif row:
                yield Record(place, {}, f"{len(row)} fields, where the first line names {len(header)}")


def _header(path: Path, row: list[str]) -> list[str]:
    names = [name.strip().lstrip("\ufeff") for name in row]
    twice = [name for name, count in Counter(names).items() if count > 1 and name]
    if twice:
        raise UserError(f'data: {path.name} has the column "{twice[0]}" more than once; rename all but one.')
    return names


def _quotes(path: Path, first: int, last: int, error: csv.Error) -> str:
    """Why one line cannot be read; a UserError where a quote swallowed the lines after it."""
    if "unexpected end" in str(error) or "field larger" in str(error):
        raise UserError(f"data: {path.name}, line {first} opens a quote that is never closed; close it or remove it.")
    if last > first:
        raise UserError(
            f"data: {path.name}, line {first} opens a quote that runs on into line {last}, so {last - first:,} lines "
            'would be lost; remove the quote in that line, or put the whole field in quotes and write "" inside.'
        )
    if first == 1:
        raise UserError(f"data: the first line of {path.name} has quotes that cannot be read ({error}); correct it.")
    return f"its quotes cannot be read: {error}"


def _json_lines(path: Path, encoding: str) -> Iterator[Record]:
    with path.open(encoding=encoding) as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                try:
                    yield _object(f"line {number}", json.loads(line))
                except (ValueError, RecursionError) as error:
                    yield Record(f"line {number}", {}, f"not valid JSON ({str(error).split(':')[0].lower()})")


def _is_json_list(path: Path) -> bool:
    """Whether this is one list of rows; a `.json` that holds one object a line is JSON Lines."""
    with path.open("rb") as file:
        return path.suffix.lower() == ".json" and file.read(256).lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"["


def _json_list(path: Path, encoding: str) -> Iterator[Record]:
    if path.stat().st_size > JSON_LIMIT:
        raise UserError(f"data: {path.name} is too large for one list in JSON; save it as JSON Lines (.jsonl).")
    try:
        rows = json.loads(path.read_text(encoding=encoding or "utf-8-sig"))
    except UnicodeDecodeError:
        check_text(path, encoding)
        raise
    except (ValueError, RecursionError) as error:
        raise UserError(f"data: {path.name} is not valid JSON: {error}.") from None
    return (_object(f"row {number}", row) for number, row in enumerate(rows, start=1))


def _object(place: str, value: object) -> Record:
    return Record(place, value) if isinstance(value, dict) else Record(place, {}, "no JSON object, {...}")


def _parquet(path: Path) -> Iterator[Record]:
    """Rows of a Parquet file; the numbers of a `ClassLabel` become the names that the file holds for them."""
    try:
        file = parquet.ParquetFile(path)
    except pyarrow.ArrowException as error:
        raise UserError(
            f"data: {path.name} cannot be read as Parquet: {str(error).splitlines()[0].rstrip('.')}."
        ) from None
    classes = _class_names(file.schema_arrow)
    rows = (values for batch in file.iter_batches() for values in batch.to_pylist())
    for number, values in enumerate(rows, start=1):
        for column, names in classes.items():
            label = values[column]
            values[column] = names[label] if label is not None and 0 <= label < len(names) else None
        yield Record(f"row {number}", values)


def _class_names(schema: pyarrow.Schema) -> dict[str, list[str]]:
    """Column -> the names of its classes, where `datasets` wrote them into the file."""
    if b"huggingface" not in (schema.metadata or {}):
        return {}
    features = Features.from_arrow_schema(schema)
    return {name: feature.names for name, feature in features.items() if isinstance(feature, ClassLabel)}
