"""CSV, JSON Lines, JSON and Parquet, each read as its columns' names and one record after another."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from helpers.local_data.guard import LINE_LIMIT, check_text
from helpers.runtime import UserError

SEPARATORS = (",", ";", "\t", "|")
LOOKED_AT = 1000  # lines of JSON whose keys become the columns
JSON_LIMIT = 100_000_000  # bytes of a list of rows, which has to be read at once


@dataclass(frozen=True)
class Record:
    """One row: where it stands, and its values, or why it cannot be read."""

    place: int
    values: dict[str, object]
    problem: str = ""


class Csv:
    """A table with a line of names; the separator is the one that this line holds most of."""

    unit = "line"

    def __init__(self, path: Path, encoding: str) -> None:
        self.path, self.encoding = path, check_text(path, encoding)
        with self._open() as file:
            first = next((line for line in file if line.strip()), "")
        self.separator = max(SEPARATORS, key=first.count)
        with self._reader() as reader:
            self.columns = [name.strip() for name in self._header(reader)]

    def records(self, columns: list[str]) -> Iterator[Record]:
        """Every row's values of `columns`; a row with other than the header's number of fields has a problem."""
        places = {name: self.columns.index(name) for name in columns}
        with self._reader() as reader:
            self._header(reader)
            while True:
                place = reader.line_num + 1
                try:
                    row = next(reader, None)
                except csv.Error as error:
                    yield Record(place, {}, self._said(error, place))
                    continue
                if row is None:
                    return
                if len(row) == len(self.columns):
                    yield Record(place, {name: row[index] for name, index in places.items()})
                elif row:
                    yield Record(place, {}, f"{len(row)} fields, where the first line names {len(self.columns)}")

    def _header(self, reader) -> list[str]:
        try:
            return next((row for row in reader if row), [])
        except csv.Error as error:
            raise UserError(f"data: the first line of {self.path.name} {self._said(error, 1)}; mend it.") from None

    def _said(self, error: csv.Error, place: int) -> str:
        if "unexpected end" in str(error) or "field larger" in str(error):
            # All that follows would be lost with it.
            raise UserError(f"data: {self.path.name}, line {place} opens a quote that is never closed; close it.")
        return f"has quotes that are not understood ({error})"

    def _open(self):
        return self.path.open(encoding=self.encoding, newline="")

    @contextmanager
    def _reader(self):
        before = csv.field_size_limit(LINE_LIMIT)
        try:
            with self._open() as file:
                yield csv.reader(file, delimiter=self.separator, strict=True)
        finally:
            csv.field_size_limit(before)


class JsonLines:
    """One object in each line."""

    unit = "line"

    def __init__(self, path: Path, encoding: str) -> None:
        self.path, self.encoding = path, check_text(path, encoding)
        found = (record.values for record in itertools.islice(self._parsed(), LOOKED_AT))
        self.columns = list(dict.fromkeys(itertools.chain.from_iterable(found)))

    def records(self, columns: list[str]) -> Iterator[Record]:
        """Every row's values of `columns`, None where it has none."""
        for record in self._parsed():
            yield Record(record.place, {name: record.values.get(name) for name in columns}, record.problem)

    def _parsed(self) -> Iterator[Record]:
        with self.path.open(encoding=self.encoding) as file:
            for place, line in enumerate(file, start=1):
                if line.strip():
                    yield _object(place, line)


class JsonList:
    """A list of objects, or of nothing else."""

    unit = "row"

    def __init__(self, path: Path, encoding: str) -> None:
        if path.stat().st_size > JSON_LIMIT:
            raise UserError(f"data: {path.name} is too large for one list in JSON; save it as JSON Lines (.jsonl).")
        try:
            rows = json.loads(path.read_text(encoding=encoding or "utf-8-sig"))
        except UnicodeDecodeError:
            check_text(path, encoding)
            raise
        except (ValueError, RecursionError) as error:
            raise UserError(f"data: {path.name} is not valid JSON: {error}.") from None
        self.rows = rows
        found = (row for row in rows if isinstance(row, dict))
        self.columns = list(dict.fromkeys(itertools.chain.from_iterable(found)))

    def records(self, columns: list[str]) -> Iterator[Record]:
        """Every row's values of `columns`, None where it has none."""
        for place, row in enumerate(self.rows, start=1):
            if isinstance(row, dict):
                yield Record(place, {name: row.get(name) for name in columns})
            else:
                yield Record(place, {}, "no JSON object, {...}")


class Parquet:
    """A table of typed columns; only those asked for are read."""

    unit = "row"

    def __init__(self, path: Path, encoding: str) -> None:
        import pyarrow
        from pyarrow import parquet

        try:
            self.file = parquet.ParquetFile(path)
        except pyarrow.ArrowException as error:
            reason = str(error).splitlines()[0].rstrip(".")
            raise UserError(f"data: {path.name} cannot be read as Parquet: {reason}.") from None
        self.columns = self.file.schema_arrow.names

    def records(self, columns: list[str]) -> Iterator[Record]:
        """Every row's values of `columns`."""
        rows = (row for batch in self.file.iter_batches(columns=columns) for row in batch.to_pylist())
        for place, row in enumerate(rows, start=1):
            yield Record(place, row)


FORMATS = {".csv": Csv, ".jsonl": JsonLines, ".json": JsonList, ".parquet": Parquet}


def open_format(path: Path, encoding: str = "") -> Csv | JsonLines | JsonList | Parquet:
    """The reader for this file's ending; a `.json` that holds one object a line is JSON Lines."""
    kind = FORMATS[path.suffix.lower()]
    if kind is JsonList and _first_mark(path) != b"[":
        kind = JsonLines
    return kind(path, encoding)


def _first_mark(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(256).lstrip(b"\xef\xbb\xbf \t\r\n")[:1]


def _object(place: int, line: str) -> Record:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        return Record(place, {}, f"not valid JSON ({str(error).split(':')[0].lower()})")
    return Record(place, found) if isinstance(found, dict) else Record(place, {}, "no JSON object, {...}")
