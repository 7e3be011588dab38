"""All that a sweep found: one row per run as Parquet, and DuckDB's answers about cells of the grid."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow
from pyarrow import parquet

from helpers.files import write_parquet
from helpers.intervals import Interval, mean_t
from helpers.runtime import UserError
from workbook.sweeps.ledger import Ledger, State

PARQUET = "runs.parquet"
COLUMNS = ("run", "attempt", "seconds", "seconds_kernel", "seconds_cells")
MAIN = 6


@dataclass(frozen=True)
class Cell:
    """One cell of the grid: its values, how many runs are done in it, and each metric's mean with its interval."""

    values: tuple
    runs: int
    means: dict[str, Interval | None]


def compact(ledger: Ledger, runs: dict[str, dict], states: dict[str, State]) -> Path:
    """Write one row per done run to `runs.parquet`, whole or not at all; return its path.

    Raises:
        UserError: no run is done, or the disk cannot be written.
    """
    every = dict.fromkeys(name for parameters in runs.values() for name in parameters)  # also of runs yet to be done
    rows = [_row(run, every | runs[run], state) for run, state in states.items() if state.status == "done"]
    if not rows:
        raise UserError(f"No run of {ledger.folder.name} is done yet.")
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: _column([row.get(name) for row in rows]) for name in names}
    return write_parquet(ledger.folder / PARQUET, pyarrow.table(columns))


def _row(run: str, parameters: dict, state: State) -> dict[str, object]:
    own = {"run": run, "attempt": state.folder.name}
    own |= {name: getattr(state.ending, name) for name in COLUMNS[2:]}
    # A metric that is called like a parameter keeps both apart.
    metrics = {
        (f"metric_{name}" if name in parameters or name in own else name): value
        for name, value in state.ending.metrics.items()
    }
    return {**own, **{name if name not in own else f"parameter_{name}": v for name, v in parameters.items()}, **metrics}


def _column(values: list) -> pyarrow.Array:
    """A column of one type; what has none, such as a dictionary, is kept as JSON."""
    known = [value for value in values if value is not None]
    if all(type(value) in (int, float) for value in known) and any(type(value) is float for value in known):
        return pyarrow.array([None if value is None else float(value) for value in values], pyarrow.float64())
    plain = any(isinstance(value, dict) for value in known)
    try:
        return pyarrow.array(values if not plain else [None if v is None else json.dumps(v) for v in values])
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError):
        return pyarrow.array([None if value is None else json.dumps(value) for value in values])


def metric_names(path: Path, parameters: Sequence[str]) -> list[str]:
    """The single numbers that were recorded, in the lesson's order."""
    schema = parquet.read_schema(path)
    numbers = [field.name for field in schema if pyarrow.types.is_floating(field.type) or _is_count(field.type)]
    return [name for name in numbers if name not in {*parameters, *COLUMNS}]


def _is_count(kind: pyarrow.DataType) -> bool:
    return pyarrow.types.is_integer(kind)


def cells(path: Path, by: Sequence[str], metrics: Sequence[str]) -> list[Cell]:
    """The mean and 95 % interval of each metric in each cell of the grid.

    Raises:
        UserError: there is no such metric.
    """
    known = parquet.read_schema(path).names
    for name in [*by, *metrics]:
        if name not in known:
            from helpers.runtime import nearest

            raise UserError(f'No run recorded "{name}".{nearest(name, known)}')
    keys = ", ".join(f'"{name}"' for name in by)
    lists = ", ".join(["count(*)", *(f'list("{name}")' for name in metrics)])
    select = f"SELECT {keys + ', ' if keys else ''}{lists} FROM read_parquet(?)"
    group = f" GROUP BY {keys} ORDER BY {keys}" if keys else ""
    with duckdb.connect() as connection:
        rows = connection.execute(select + group, [str(path)]).fetchall()
    return [_cell(row, len(by), metrics) for row in rows]


def _cell(row: tuple, keys: int, metrics: Sequence[str]) -> Cell:
    means: dict[str, Interval | None] = {}
    for name, values in zip(metrics, row[keys + 1 :], strict=True):
        numbers = [value for value in values if value is not None]
        means[name] = mean_t(numbers) if numbers else None
    return Cell(row[:keys], row[keys], means)


def ask(path: Path, question: str) -> tuple[list[str], list[tuple]]:
    """DuckDB's answer to a question in SQL about the table `runs`: column names and rows.

    Raises:
        UserError: DuckDB does not understand it.
    """
    with duckdb.connect() as connection:
        connection.from_parquet(str(path)).create_view("runs")
        # The question is about the runs: nothing else on the disk is read or written by it.
        connection.execute("CREATE TABLE kept AS SELECT * FROM runs; DROP VIEW runs; ALTER TABLE kept RENAME TO runs")
        connection.execute("SET enable_external_access = false")
        try:
            answer = connection.execute(question)
            return [column[0] for column in answer.description], answer.fetchall()
        except duckdb.Error as error:
            raise UserError(f"DuckDB says: {str(error).splitlines()[0]}") from None
