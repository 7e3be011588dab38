"""Reads CSV, JSON Lines, JSON and Parquet files record by record, each with its place in the file.

For text files we do not use the libraries' readers, which pad short rows and do not name the lines that they drop.
"""

from __future__ import annotations

import codecs
import csv
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pyarrow
from datasets import ClassLabel, Features
from pyarrow import parquet

from helpers.own_data.chats import is_conversation
from helpers.own_data.request import Request
from helpers.runtime import UserError
from helpers.weight_files import wrong_content

FORMATS = (".csv", ".tsv", ".jsonl", ".json", ".parquet")
SEPARATORS = (",", ";", "\t", "|")
LINE_LIMIT = 10_000_000  # characters; a text of a million words is shorter
JSON_LIMIT = 100_000_000  # bytes; a list in JSON has to be read at once
LONG = 10  # a CSV row with more lines is reported, because a missing quote joins several rows
SAMPLE = 4096  # bytes to read for telling text from binary content
OTHERS = {
    (".gz", ".bz2", ".xz", ".zst", ".zip", ".7z", ".tar"): "unpack it, and give the file inside",
    (".xlsx", ".xls", ".ods", ".numbers"): "save the sheet as CSV (UTF-8) in your spreadsheet program",
    (".arrow", ".feather", ".pkl", ".npy", ".sqlite", ".db"): "write it as Parquet, for instance with to_parquet",
}  # fmt: skip
PACKED = (
    b"PK\x03\x04",
    b"\x1f\x8b",
    b"BZh",
    b"\xfd7zXZ",
    b"\x28\xb5\x2f\xfd",
)  # zip and spreadsheets, gzip, bzip2, xz, zstd
MARKS = {  # UTF-32 comes first, because its little-endian mark begins with UTF-16's
    codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16",
}  # fmt: skip
# Encoding -> (bytes per character, position of the byte that is not zero in a Latin letter).
WIDE = {"utf-32-le": (4, 0), "utf-32-be": (4, 3), "utf-16-le": (2, 0), "utf-16-be": (2, 1)}


class Record(NamedTuple):
    """One row: its place ("line 5" or "row 5"), and its values or the problem that makes it unreadable.

    An unreadable row of a CSV file still has the header's columns, all with the value None.
    """

    place: str
    values: dict[str, object]
    problem: str = ""
    lines: int = 1  # number of lines that the row occupies in the file


def records(request: Request) -> Iterator[Record]:
    """Iterate over all rows of the requested file, including unreadable ones.

    Raises:
        UserError: when the file cannot be read at all, or a line is longer than 10 million characters, is not in this
            encoding, or opens a quote that runs into the following rows.
    """
    path, suffix = request.path, request.path.suffix.lower()
    wrong = wrong_content(path)
    if wrong:
        raise UserError(f"data: {path} {wrong}")
    if suffix == ".parquet":
        return _parquet(path)
    request = replace(request, encoding=_encoding(request))
    if suffix == ".json" and _begins_with(path, request.encoding) == "[":
        return _json_list(request)
    csv.field_size_limit(LINE_LIMIT)  # Python's default limit of 131,072 characters is too small for long texts
    if suffix == ".json":
        _check_rows(request)
    if suffix in (".json", ".jsonl"):
        return _json_lines(request)
    return _csv(request, request.separator or ("\t" if suffix == ".tsv" else _separator(request)))


def check_suffix(path: Path) -> None:
    """Raise a UserError, which says how to convert the file, if its name does not end in one of `FORMATS`."""
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        fix = next((said for suffixes, said in OTHERS.items() if suffix in suffixes), "rename it if it is one of them")
        raise UserError(f"data: {path.name} ends in {suffix or 'nothing'}; use one of {', '.join(FORMATS)}: {fix}.")


def _encoding(request: Request) -> str:
    """Return the encoding of the request, else that of the file's byte-order mark, else UTF-8."""
    path, encoding = request.path, request.encoding
    with path.open("rb") as file:
        start = file.read(SAMPLE)
    marked = next((name for mark, name in MARKS.items() if start.startswith(mark)), "utf-8")
    if not encoding or marked != "utf-8":  # no text begins with a mark's bytes in another encoding
        encoding = marked
    packed = start.startswith(PACKED)
    if packed or (b"\0" in start and not encoding.startswith(("utf-16", "utf-32"))):
        for name in () if packed else WIDE:
            if _is_wide(start, name):
                suggestion = request.suggestion(encoding=name)
                raise UserError(f"data: {path.name} looks like {name[:6].upper()}; say so: {suggestion}.")
        unpack = " it is packed: unpack it, or" if packed else ""
        raise UserError(f"data: {path.name} is no text file, whatever its ending says;{unpack} save it as CSV, UTF-8.")
    return encoding


def _is_wide(start: bytes, name: str) -> bool:
    """Whether the first bytes of a file are text in UTF-16 or UTF-32."""
    width, place = WIDE[name]
    others = [byte for number, byte in enumerate(start) if number % width != place]
    if others.count(0) > 0.9 * len(others):
        return True
    with suppress(UnicodeDecodeError):  # other scripts: few zeros, but no odd character, and some separators
        text = codecs.getincrementaldecoder(name)().decode(start)
        return sum(map(str.isascii, text)) > 3 and all(sign.isprintable() or sign.isspace() for sign in text)
    return False


def _begins_with(path: Path, encoding: str) -> str:
    """Return the first character of a text file that is not white space."""
    with path.open("rb") as file:
        return file.read(256).decode(encoding, errors="ignore").lstrip("\ufeff \t\r\n")[:1]


def _lines(request: Request) -> Iterator[str]:
    """Yield the lines of a text file; raise a UserError for a line so long that it could fill the memory."""
    path, encoding = request.path, request.encoding
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
        raise _not_decoded(request, error) from None


def _not_decoded(request: Request, error: UnicodeError) -> UserError:
    """Return the error for a file in another encoding; it names the first line that cannot be decoded."""
    path, encoding = request.path, request.encoding
    name = encoding.removesuffix("-sig").upper()
    if name.startswith(("UTF-16", "UTF-32")):
        utf_8 = request.suggestion(encoding="utf-8")
        return UserError(f"data: {path.name} is not {name} ({error}); save it as UTF-8, or name its encoding: {utf_8}.")
    with path.open("rb") as file:
        for number in itertools.count(1):
            line = file.readline(LINE_LIMIT)
            try:
                line.decode(encoding)
            except UnicodeDecodeError as first:
                wrong = f"line {number} is not {name} (byte 0x{line[first.start]:02x})"
                fix = _other_encoding(request, line)
                return UserError(f"data: {path.name}, {wrong}; save the file as UTF-8, or name its encoding{fix}.")
    raise AssertionError("a line that cannot be decoded is found again")


def _other_encoding(request: Request, line: bytes) -> str:
    """Return the end of the message: which encoding to try. UTF-8 and cp1252 are named only if they decode the line."""
    letters = [byte for byte in line if chr(byte).isalpha() or byte > 127]
    # Probably not a Latin script, in which few letters have accents, and rarely four in a row.
    foreign = 2 * sum(byte > 127 for byte in letters) > len(letters) or re.search(rb"[\x80-\xff]{4}", line)
    for name in ("utf-8", "cp1252"):
        with suppress(UnicodeDecodeError):
            line.decode(name)
            if name == "utf-8" or not foreign:
                return f": {request.suggestion(encoding=name)}"
    example = request.suggestion(encoding="NAME")
    if foreign:
        return f", {example}, such as cp1251 or koi8-r (Cyrillic), gb18030 or big5 (Chinese), shift_jis (Japanese)"
    return f", {example}, such as cp1250 (Central Europe), cp437 (DOS) or mac_roman"


def _separator(request: Request) -> str:
    """Return the separator for which most of the first rows have as many fields as the header."""
    lines = list(itertools.islice(_lines(request), 20))

    def agreement(separator: str) -> tuple[int, int]:
        header, *rows = [row for row in csv.reader(lines, delimiter=separator) if row] or [[]]
        return sum(len(row) == len(header) > 1 for row in rows), len(header)

    return max(SEPARATORS, key=agreement)


def _csv(request: Request, separator: str) -> Iterator[Record]:
    path = request.path
    header: list[str] = []
    reader = csv.reader(_lines(request), delimiter=separator, strict=True)
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
        if not header and [field for field in row if field] in (["sep="], [f"sep={separator}"]):
            continue  # Excel's first line, which names the separator
        if not header:
            header = _header(path, row)
        elif len(row) == len(header):
            yield Record(place, dict(zip(header, row, strict=True)), lines=reader.line_num - first + 1)
        elif row:
            taken = reader.line_num - first + 1
            if taken > LONG:
                raise _runs_on(path, first, reader.line_num)
            glued = f"; it runs on to line {reader.line_num}, so check its quotes" if taken > 1 else ""
            fix = (
                f'; a text that holds "{separator}" has to stand in quotes'
                if not glued and len(row) > len(header)
                else ""
            )
            problem = f"{len(row)} fields, where the first line names {len(header)}{glued}{fix}"
            yield Record(place, dict.fromkeys(header), problem, taken)


def _header(path: Path, row: list[str]) -> list[str]:
    names = [name.strip().lstrip("\ufeff") for name in row]
    _check_once(path, names)
    return names


def _check_once(path: Path, names: list[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1 and name]
    if twice:
        raise UserError(f'data: {path.name} has the column "{twice[0]}" more than once; rename all but one.')


def _quotes(path: Path, first: int, last: int, error: csv.Error) -> str:
    """Return why one line cannot be read; raise a UserError if its open quote also takes in the next lines."""
    if "unexpected end" in str(error) or "field larger" in str(error):
        raise UserError(f"data: {path.name}, line {first} opens a quote that is never closed; close it or remove it.")
    if last > first:
        raise _runs_on(path, first, last)
    if first == 1:
        raise UserError(f"data: the first line of {path.name} has quotes that cannot be read ({error}); correct it.")
    return f"its quotes cannot be read: {error}"


def _runs_on(path: Path, first: int, last: int) -> UserError:
    return UserError(
        f"data: {path.name}, line {first} opens a quote that runs on into line {last}, so {last - first:,} lines would "
        'be lost; remove the quote in that line, or put the whole field in quotes and write "" inside.'
    )


def _json_lines(request: Request) -> Iterator[Record]:
    for number, line in enumerate(_lines(request), start=1):
        if line.strip():
            try:
                yield _object(f"line {number}", json.loads(line, object_pairs_hook=_once))
            except (ValueError, RecursionError) as error:
                yield Record(f"line {number}", {}, f"not valid JSON ({str(error).split(':')[0].lower()})")


def _check_rows(request: Request) -> None:
    """Raise a UserError if a .json file is one object with all rows or columns in it, and not one row in each line."""
    path = request.path
    try:
        value = json.loads("".join(_lines(request))) if path.stat().st_size <= JSON_LIMIT else None
    except (ValueError, RecursionError):
        return
    if not isinstance(value, dict):
        return
    inside = [part for part in value.values() if isinstance(part, list | dict)]
    if not inside or any(is_conversation(part) for part in inside):
        return
    if len(inside) == len(value) or any(isinstance(row, dict) for part in inside for row in part):
        raise UserError(
            f"data: {path.name} is one object ({', '.join(list(value)[:3])}) and a lesson reads a list of rows, "
            '[{...}, {...}]; save that list alone; in pandas: to_json(path, orient="records").'
        )


def _json_list(request: Request) -> Iterator[Record]:
    path = request.path
    if path.stat().st_size > JSON_LIMIT:
        raise UserError(f"data: {path.name} is too large for one list in JSON; save it as JSON Lines (.jsonl).")
    try:
        text = path.read_text(encoding=request.encoding).removeprefix("\ufeff")
        rows = json.loads(text, object_pairs_hook=_once)
    except UnicodeError as error:
        raise _not_decoded(request, error) from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"data: {path.name} is not valid JSON: {error}.") from None
    return (_object(f"row {number}", row) for number, row in enumerate(rows, start=1))


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Return a JSON object as a dict; raise a ValueError if it has a key twice, because one value would be lost."""
    found = dict(pairs)
    if len(found) < len(pairs):
        name = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise ValueError(f'the key "{name[:40]}" stands there twice')
    return found


def _object(place: str, value: object) -> Record:
    return Record(place, value) if isinstance(value, dict) else Record(place, {}, "no JSON object, {...}")


def _parquet(path: Path) -> Iterator[Record]:
    """Yield the rows of a Parquet file; class numbers of a `ClassLabel` are replaced by their names in the file."""
    try:
        file = parquet.ParquetFile(path)
    except pyarrow.ArrowException as error:
        raise UserError(
            f"data: {path.name} cannot be read as Parquet: {str(error).splitlines()[0].rstrip('.')}."
        ) from None
    _check_once(path, file.schema_arrow.names)
    classes = _class_names(file.schema_arrow)
    rows = (values for batch in file.iter_batches() for values in batch.to_pylist())
    for number, values in enumerate(rows, start=1):
        for column, names in classes.items():
            label = values[column]
            values[column] = names[label] if label is not None and 0 <= label < len(names) else None
        for column, value in values.items():
            if isinstance(value, bytes):  # some writers do not mark text as UTF-8
                with suppress(UnicodeDecodeError):
                    values[column] = value.decode()
        yield Record(f"row {number}", values)


def _class_names(schema: pyarrow.Schema) -> dict[str, list[str]]:
    """Return column -> class names, if `datasets` stored them in the file."""
    if b"huggingface" not in (schema.metadata or {}):
        return {}
    features = Features.from_arrow_schema(schema)
    return {name: feature.names for name, feature in features.items() if isinstance(feature, ClassLabel)}
