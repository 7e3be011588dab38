"""Reads a file for given roles, and separates its usable rows from those with a problem."""

from __future__ import annotations

import datetime
import decimal
import itertools
import math
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas

from helpers.own_data.chats import PAIR, Conversation, as_text, is_derived
from helpers.own_data.columns import Choice, choose_columns
from helpers.own_data.formats import LONG, Record, check_suffix, records
from helpers.own_data.request import Request
from helpers.paths import exists, unreachable
from helpers.runtime import UserError

LOOKED_AT = 1000  # number of first records whose keys become the columns
EQUAL = "the same chosen and rejected answer"
TOO_LONG = "too long"
HALF = re.compile("[\ud800-\udfff]")  # an unpaired surrogate, which cannot be encoded
INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]")  # zero width, and marks of direction
READABLE = (str, int, float, bool, decimal.Decimal, datetime.date, datetime.time)


@dataclass
class Table:
    """A file's usable rows by role, and the problems of its other rows.

    rows: the usable rows, with a column per role; the index is each row's place, such as "line 5".
    problems: place of each unusable row -> its problem, such as "no label".
    long: place of each row that takes several lines of a CSV file -> its number of lines.
    """

    request: Request
    columns: list[str]
    choice: Choice
    rows: pandas.DataFrame
    problems: dict[str, str]
    long: dict[str, int] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """The file, or the first one if the data have several pieces."""
        return self.request.path

    @property
    def total(self) -> int:
        """The number of rows of the file, usable or not."""
        return len(self.rows) + len(self.problems)

    def summary(self) -> list[str]:
        """Return one phrase per kind of problem: how many rows have it, and where the first of them is."""
        found = []
        named = [*(f"no {role}" for role in self.rows), EQUAL]
        for problem in named:
            places = [place for place, reason in self.problems.items() if reason == problem]
            if places:
                has = "has" if len(places) == 1 else "have"
                found.append(f"{len(places):,} of {self.total:,} rows {has} {problem} (the first: {places[0]})")
        long = {place: reason for place, reason in self.problems.items() if reason.startswith(TOO_LONG)}
        if long:
            place, reason = next(iter(long.items()))
            verb, why = "is" if len(long) == 1 else "are", reason.removeprefix(f"{TOO_LONG}: ")
            found.append(f"{len(long):,} of {self.total:,} rows {verb} {TOO_LONG} (the first: {place}, {why})")
        others = {place: said for place, said in self.problems.items() if said not in named and place not in long}
        if others:
            place, reason = next(iter(others.items()))
            found.append(f"{len(others):,} cannot be read (the first: {place}, {reason})")
        return found

    def on_lines(self) -> str:
        """Return '; 3 rows take 7 lines of the file' if some rows of a CSV file take several lines, else ''."""
        count, rows = sum(self.long.values()), "row takes" if len(self.long) == 1 else "rows take"
        return f"; {len(self.long):,} {rows} {count:,} lines of the file" if self.long else ""

    def suspicion(self) -> str:
        """Return 'line 21 runs over 41 lines; is a quote missing?' if a row of a CSV file is that long, else ''."""
        place, most = max(self.long.items(), key=lambda one: one[1], default=("", 0))
        return f"{place} runs over {most:,} lines; is a quote missing?" if most > LONG else ""


def read(request: Request, roles: Sequence[str] = (), pieces: Sequence[Path] = ()) -> Table:
    """Read the file of this request, and its further `pieces`, for these roles.

    Args:
        roles: () takes the roles of the first kind of data that the columns fit.

    Raises:
        UserError: when the file does not exist, is empty, cannot be read at all, or lacks a column.
    """
    table = _read_one(request, roles)
    for piece in pieces:
        other = _read_one(replace(request, path=piece), list(table.rows))
        table.rows = pandas.concat([table.rows, other.rows.rename(lambda place, name=piece.name: f"{place} of {name}")])
        table.long |= {f"{place} of {piece.name}": lines for place, lines in other.long.items()}
        table.problems |= {f"{place} of {piece.name}": problem for place, problem in other.problems.items()}
    return table


def check_usable(table: Table) -> Table:
    """Return the table if all rows are usable, or if the learner allowed us to skip the others.

    Raises:
        UserError: when rows are unusable and the learner did not ask to skip them, or no row is left.
    """
    name, problems = table.path.name, " and ".join(table.summary())
    if not table.total:
        raise _empty(table.path, list(table.rows))
    if table.problems and not table.rows.empty and not table.request.skip_bad:
        leave_out = table.request.suggestion(bad="skip")
        raise UserError(f"data: in {name} {problems}; correct or remove them, or leave them out: {leave_out}.")
    if table.rows.empty:
        raise UserError(f"data: no row of {name} can be used: {problems}; correct them.")
    return table


def _read_one(request: Request, roles: Sequence[str]) -> Table:
    path = request.path
    check_suffix(path)
    if not exists(path) or path.is_dir():
        raise UserError(f"data: there is no file {path}.")
    try:
        found = records(request) if path.stat().st_size else iter(())
        plain = (record._replace(values=as_text(record.values)) for record in found)
        return _table(request, plain, roles)
    except OSError as error:
        raise unreachable(path, error) from None


def _table(request: Request, found: Iterator[Record], roles: Sequence[str]) -> Table:
    path = request.path
    first = list(itertools.islice(found, LOOKED_AT))
    columns = list(dict.fromkeys(itertools.chain.from_iterable(record.values for record in first)))
    if not columns and first:
        raise UserError(
            f"data: {path.name}, {first[0].place}: {first[0].problem or 'no columns'}; correct it (a list "
            "of rows in brackets goes into a .json file, one object in each line into a .jsonl file)."
        )
    if not columns:
        raise _empty(path, roles)
    choice = choose_columns(columns, roles, request)
    pair = [list(choice.columns).index(role) for role in PAIR if role in choice.columns]
    pair = pair if len(pair) == len(PAIR) else []
    rows: dict[str, list] = {}
    problems: dict[str, str] = {}
    long: dict[str, int] = {}
    known = set(columns)
    for record in itertools.chain(first, found):
        if not known.issuperset(record.values):
            columns += [name for name in record.values if name not in known]
            known.update(columns)
        values = [record.values.get(column) for column in choice.columns.values()]
        problem = record.problem or next(filter(None, map(_wrong, choice.columns, values)), "")
        if pair and not problem and same_answer(*(str(values[place]) for place in pair)):
            problem = EQUAL
        if problem:
            problems[record.place] = problem
        else:
            rows[record.place] = values
        if record.lines > 1:
            long[record.place] = record.lines
    frame = pandas.DataFrame(list(rows.values()), index=list(rows), columns=list(choice.columns), dtype=object)
    return Table(request, [name for name in columns if not is_derived(name)], choice, frame, problems, long)


def same_answer(chosen: str, rejected: str) -> bool:
    """Whether both answers are the same except for surrounding white space, so that the pair has no preference."""
    return chosen.strip() == rejected.strip()


def normalized(text: object) -> str:
    """Return a text for comparison with others.

    In lower case (casefold), with white space collapsed, without invisible characters, and with each character in its
    usual Unicode form (NFKC): "e" and an accent become one letter.
    """
    plain = str(text)
    if not plain.isascii():
        plain = INVISIBLE.sub("", unicodedata.normalize("NFKC", plain))
    return " ".join(plain.split()).casefold()


def _wrong(role: str, value: object) -> str:
    """Return why a value cannot be used; "" if it can."""
    if value is None or (isinstance(value, float) and math.isnan(value)) or not normalized(value):
        return f"no {role}"
    if isinstance(value, Conversation):
        return f"its {role} has {value.problem}"
    if not isinstance(value, READABLE):
        return f"its {role} is a {type(value).__name__}, not a text"
    if isinstance(value, str) and HALF.search(value):
        return f"its {role} holds half a character"
    return ""


def _empty(path: Path, roles: Sequence[str]) -> UserError:
    return UserError(f"data: {path.name} is empty; it needs rows with {' and '.join(roles or ('text', 'label'))}.")
