"""A file read for certain roles: every row is a usable one, or counted among those that are not."""

from __future__ import annotations

import datetime
import decimal
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from helpers.local_data.columns import KINDS, Choice, choose_columns, kind_of
from helpers.local_data.formats import FORMATS, Record, open_format
from helpers.local_data.request import Request
from helpers.reach import exists, unreachable
from helpers.runtime import UserError

Value = str | int | float | bool
READABLE = (str, int, float, bool, decimal.Decimal, datetime.date, datetime.time)


@dataclass
class Table:
    """A file's rows under their roles.

    rows: role -> one value for each usable row. places: where each of them stands (a line or a row of the file).
    blank: role -> the places that have nothing there. unreadable: place -> what is wrong.
    """

    path: Path
    unit: str
    columns: list[str]
    choice: Choice
    rows: dict[str, list[Value]]
    places: list[int] = field(default_factory=list)
    blank: dict[str, list[int]] = field(default_factory=dict)
    unreadable: dict[int, str] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Rows of the file, usable or not."""
        return len(self.places) + len(self.bad)

    @property
    def bad(self) -> list[int]:
        """The places of the rows that cannot be used."""
        return sorted({*self.unreadable, *(place for places in self.blank.values() for place in places)})

    def append(self, other: Table) -> None:
        """Let the rows of another piece of the same file follow; places count on."""
        start = self.total
        self.places += [start + place for place in other.places]
        for role, values in other.rows.items():
            self.rows[role] += values
        for role, places in other.blank.items():
            self.blank.setdefault(role, []).extend(start + place for place in places)
        self.unreadable |= {start + place: problem for place, problem in other.unreadable.items()}

    def problems(self) -> list[str]:
        """One phrase for each way of being unusable: how many rows, and where the first one is."""
        found = [
            f"{_count(len(places), self.total)} no {role} (the first: {self.unit} {places[0]})"
            for role, places in self.blank.items()
        ]
        if self.unreadable:
            place, reason = next(iter(self.unreadable.items()))
            found.append(f"{len(self.unreadable):,} cannot be read (the first: {self.unit} {place}, {reason})")
        return found


def read(request: Request, roles: Sequence[str] = ()) -> Table:
    """The file of this request and its pieces, for these roles (none: those of the first kind that its columns fit).

    Raises:
        UserError: as `read_one`.
    """
    table = read_one(request, roles)
    for piece in request.pieces:
        table.append(read_one(replace(request, path=piece), tuple(table.rows)))
    return table


def read_one(request: Request, roles: Sequence[str] = ()) -> Table:
    """One file, for these roles.

    Raises:
        UserError: when there is no such file, it is empty, unreadable as a whole, or lacks a column.
    """
    path = request.path
    if path.suffix.lower() not in FORMATS:
        raise UserError(f"data: {path.name} ends in {path.suffix or 'nothing'}; use one of {', '.join(FORMATS)}.")
    if not exists(path) or path.is_dir():
        raise UserError(f"data: there is no file {path}.")
    try:
        if not path.stat().st_size:
            raise _empty(path, roles)
        source = open_format(path, request.encoding)
        if not source.columns:
            first = next((record for record in source.records([]) if record.problem), None)
            if first is None:
                raise _empty(path, roles)
            raise UserError(
                f"data: {path.name}, {source.unit} {first.place}: {first.problem}; mend it (a list of rows in brackets "
                "belongs into a .json file, one object in each line into a .jsonl file)."
            )
        roles = roles or KINDS[kind_of(source.columns, request.columns, path.name)]
        return _filled(source, path, choose_columns(source.columns, roles, request.columns, path.name))
    except OSError as error:
        raise unreachable(path, error) from None


def read_table(path: Path | str | Request, columns: Sequence[str]):
    """The file as a pandas frame with `columns`, each filled in every row.

    Raises:
        UserError: as `usable`.
    """
    import pandas

    return pandas.DataFrame(usable(Request.of(path), columns).rows)


def usable(request: Request, roles: Sequence[str]) -> Table:
    """As `read`, and no row is lost without the learner's word.

    Raises:
        UserError: also when rows cannot be used and the request does not say to skip them, or none is left.
    """
    table = read(request, roles)
    if not table.total:
        raise _empty(request.path, roles)
    if table.bad and not request.skip_bad:
        raise UserError(
            f"data: in {request.path.name} {' and '.join(table.problems())}; mend or remove them, or leave them out: "
            f'data="{request.path.name}?bad=skip".'
        )
    if not table.places:
        raise UserError(f"data: no row of {request.path.name} can be used: {' and '.join(table.problems())}.")
    return table


def _filled(source, path: Path, choice: Choice) -> Table:
    table = Table(path, source.unit, source.columns, choice, {role: [] for role in choice.columns})
    try:
        for record in source.records(list(choice.columns.values())):
            _take(table, record)
    except UnicodeDecodeError:
        raise UserError(f"data: {path.name} changed while it was read; try again.") from None
    return table


def _take(table: Table, record: Record) -> None:
    values = {role: record.values.get(column) for role, column in table.choice.columns.items()}
    problem = record.problem or next(filter(None, (_unreadable(role, value) for role, value in values.items())), "")
    if problem:
        table.unreadable[record.place] = problem
        return
    missing = [role for role, value in values.items() if is_missing(value)]
    for role in missing:
        table.blank.setdefault(role, []).append(record.place)
    if not missing:
        table.places.append(record.place)
        for role, value in values.items():
            table.rows[role].append(value)


def is_missing(value: object) -> bool:
    """None, not a number, or nothing but white space."""
    return value is None or (isinstance(value, float) and math.isnan(value)) or not str(value).strip()


def _unreadable(role: str, value: object) -> str:
    if value is not None and not isinstance(value, READABLE):
        return f"its {role} is a {type(value).__name__}, not a text"
    if isinstance(value, str) and any("\ud800" <= mark <= "\udfff" for mark in value):
        return f"its {role} holds half a character"
    return ""


def _count(count: int, total: int) -> str:
    return f"{count:,} of {total:,} rows {'has' if count == 1 else 'have'}"


def _empty(path: Path, roles: Sequence[str]) -> UserError:
    return UserError(f"data: {path.name} is empty; it needs rows with {' and '.join(roles or ('text', 'label'))}.")
