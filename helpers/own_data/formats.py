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
LINE_LIMIT = 10_000_000  # characters: a text of a million words is still shorter
JSON_LIMIT = 100_000_000  # bytes of a list of rows, which has to be read at once
SAMPLE = 4096  # bytes by which text is told from other content
MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


class Record(NamedTuple):
    """One row: where it stands, as "line 5" or "row 5"; its values, or why it cannot be read.

    A row of a CSV file that cannot be read still has the header's columns, each with None.
    """

    place: str
    values: dict[str, object]
    problem: str = ""


def records(path: Path, encoding: str = "", separator: str = "") -> Iterator[Record]:
    """Every row of the file, the unreadable ones included.

    Raises:
        UserError: when the file cannot be read as a whole; a line is longer than 10 million characters, is not in this
            encoding, or opens a quote that runs into the following rows.
    """
    if path.suffix.lower() == ".parquet":
        return _parquet(path)
    if _is_json_list(path):
        return _json_list(path, encoding)
    encoding = _encoding(path, encoding)
    csv.field_size_limit(LINE_LIMIT)  # Python's own limit of 131,072 characters would refuse a long text
    if path.suffix.lower() in (".json", ".jsonl"):
        return _json_lines(path, encoding)
    return _csv(path, encoding, separator or ("\t" if path.suffix.lower() == ".tsv" else _separator(path, encoding)))


def _encoding(path: Path, encoding: str) -> str:
    """The encoding that was given, the one that the file's byte-order mark names, or UTF-8."""
    with path.open("rb") as file:
        start = file.read(SAMPLE)
    marked = next((name for mark, name in MARKS.items() if start.startswith(mark)), "utf-8")
    if not encoding or encoding.startswith(marked.removesuffix("-sig")):
        encoding = marked
    if b"\0" in start and not encoding.startswith(("utf-16", "utf-32")):
        if start[1::2].count(0) > 0.6 * len(start) / 2:  # Latin letters in UTF-16: every second byte is zero
            raise UserError(f'data: {path.name} looks like UTF-16; say so: data="{path.name}?encoding=utf-16-le".')
        raise UserError(f"data: {path.name} is no text file, whatever its ending says; save it as CSV, UTF-8.")
    return encoding


def _lines(path: Path, encoding: str) -> Iterator[str]:
    """The lines of a text file, none of them so long that it could fill the memory."""
    try:
        with path.open(encoding=encoding, newline="") as file:
            for number in itertools.count(1):
                line = file.readline(LINE_LIMIT)
                if len(line) == LINE_LIMIT:
                    raise UserError(
                        f"data: {path.name}, line {number} is longer than {LINE_LIMIT // 10**6} million characters; "
                        "check whether its line end or quotes are missing, then cut or remove it."
                    )
                if not line:
                    return
                yield line
    except UnicodeError as error:
        raise _not_decoded(path, encoding, error) from None


def _not_decoded(path: Path, encoding: str, error: UnicodeError) -> UserError:
    """The error for a file in another encoding, with the first line that is."""
    name, other = encoding.removesuffix("-sig").upper(), "cp1252" if encoding.startswith("utf") else "utf-8"
    fix = f'save the file as UTF-8, or name its encoding: data="{path.name}?encoding={other}".'
    if name.startswith(("UTF-16", "UTF-32")):
        return UserError(f"data: {path.name} is not {name} ({error}); {fix}")
    with path.open("rb") as file:
        for number in itertools.count(1):
            try:
                file.readline(LINE_LIMIT).decode(encoding)
            except UnicodeDecodeError as first:
                byte = first.object[first.start]
                return UserError(f"data: {path.name}, line {number} is not {name} (byte 0x{byte:02x}); {fix}")
    raise AssertionError("a line that cannot be decoded is found again")


def _separator(path: Path, encoding: str) -> str:
    """The separator under which most of the first rows have as many fields as the header."""
    lines = list(itertools.islice(_lines(path, encoding), 20))

    def agreement(separator: str) -> tuple[int, int]:
        header, *rows = [row for row in csv.reader(lines, delimiter=separator) if row] or [[]]
        return sum(len(row) == len(header) > 1 for row in rows), len(header)

    return max(SEPARATORS, key=agreement)


def _csv(path: Path, encoding: str, separator: str) -> Iterator[Record]:
    header: list[str] = []
    reader = csv.reader(_lines(path, encoding), delimiter=separator, strict=True)
    while True:
        first = reader.line_num + 1
        place = f"line {first}"
        try:
            row = next(reader, None)
        except csv.Error as error:
            yield Record(place, dict.fromkeys(header), _quotes(path, first, reader.line_num, error))
            continue
        if row is None:
            return
        if not header:
            header = _header(path, row)
        elif len(row) == len(header):
            yield Record(place, dict(zip(header, row, strict=True)))
        elif row:
            glued = f"; it runs on to line {reader.line_num}, so check its quotes" if reader.line_num > first else ""
            yield Record(
                place, dict.fromkeys(header), f"{len(row)} fields, where the first line names {len(header)}{glued}"
            )


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
    for number, line in enumerate(_lines(path, encoding), start=1):
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
    except UnicodeError as error:
        raise _not_decoded(path, encoding or "utf-8", error) from None
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
