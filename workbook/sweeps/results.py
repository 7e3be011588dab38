"""A sweep's results: one row per run in a Parquet file, and DuckDB queries over the cells of the grid.

If a run measures a metric at several numbers, each name ends with its number: `accuracy_nf4_*` at 2, 3 and 4 bits.

accuracy_nf4_2 = 0.71                 bits   accuracy_nf4
accuracy_nf4_3 = 0.88   ----------->     2           0.71
accuracy_nf4_4 = 0.90                    3           0.88  ...
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow
from pyarrow import parquet

from helpers.files import write_parquet
from helpers.intervals import Interval, mean_t
from helpers.runtime import UserError, nearest
from workbook.engine.ledger import State

PARQUET = "runs.parquet"
COLUMNS = ("run", "attempt", "seconds", "seconds_kernel", "seconds_cells")
STAR = "_*"


@dataclass(frozen=True)
class Cell:
    """One cell of the grid: its values, its number of finished runs, and each metric's mean with its interval."""

    values: tuple
    runs: int
    means: dict[str, Interval | None]


def write_table(folder: Path, runs: dict[str, dict], states: dict[str, State]) -> Path:
    """Write one row per finished run to `runs.parquet` in a sweep's folder, atomically; return its path.

    Raises:
        UserError: no run is done, or the disk cannot be written.
    """
    every = dict.fromkeys(name for parameters in runs.values() for name in parameters)  # includes unfinished runs
    rows = [_row(run, every | runs[run], state) for run, state in states.items() if state.status == "done"]
    if not rows:
        raise UserError(f"No run of {folder.name} is done yet.")
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: _column([row.get(name) for row in rows]) for name in names}
    return write_parquet(folder / PARQUET, pyarrow.table(columns))


def _row(run: str, parameters: dict, state: State) -> dict[str, object]:
    assert state.folder and state.outcome  # a run that is done has both
    own = {"run": run, "attempt": state.folder.name}
    own |= {name: getattr(state.outcome, name) for name in COLUMNS[2:]}
    # A metric with the name of a parameter or another column gets the prefix `metric_`.
    metrics = {
        (f"metric_{name}" if name in parameters or name in own else name): value
        for name, value in state.outcome.metrics.items()
    }
    return {**own, **{name if name not in own else f"parameter_{name}": v for name, v in parameters.items()}, **metrics}


def _column(values: list) -> pyarrow.Array:
    """A column of one type; values without a common type, and dictionaries, are stored as JSON."""
    known = [value for value in values if value is not None]
    if all(type(value) in (int, float) for value in known) and any(type(value) is float for value in known):
        return pyarrow.array([None if value is None else float(value) for value in values], pyarrow.float64())
    plain = any(isinstance(value, dict) for value in known)
    try:
        return pyarrow.array(values if not plain else [None if v is None else json.dumps(v) for v in values])
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError):
        return pyarrow.array([None if value is None else json.dumps(value) for value in values])


def metric_names(path: Path, parameters: Iterable[str]) -> list[str]:
    """The names of the metrics that are single numbers, in the lesson's order."""
    kinds = {field.name: field.type for field in parquet.read_schema(path)}
    numbers = [
        name for name, kind in kinds.items() if pyarrow.types.is_floating(kind) or pyarrow.types.is_integer(kind)
    ]
    return [name for name in numbers if name not in {*parameters, *COLUMNS}]


def cells(path: Path, by: Sequence[str], metrics: Sequence[str]) -> list[Cell]:
    """The mean and 95 % interval of each metric in each cell of the grid.

    Raises:
        UserError: there is no such metric.
    """
    known = parquet.read_schema(path).names
    for name in [*by, *metrics]:
        if name not in known:
            raise UserError(f'No run recorded "{name}".{nearest(name, known)}')
    columns = ", ".join([*(f'"{name}"' for name in by), "count(*)", *(f'list("{name}")' for name in metrics)])
    with duckdb.connect() as connection:
        question = f"SELECT {columns} FROM read_parquet(?) GROUP BY ALL ORDER BY ALL"
        rows = connection.execute(question, [str(path)]).fetchall()
    return [_cell(row, len(by), metrics) for row in rows]


def _cell(row: tuple, keys: int, metrics: Sequence[str]) -> Cell:
    means: dict[str, Interval | None] = {}
    for name, values in zip(metrics, row[keys + 1 :], strict=True):
        numbers = [value for value in values if value is not None]
        means[name] = mean_t(numbers) if numbers else None
    return Cell(row[:keys], row[keys], means)


def has_endings(metrics: Sequence[str]) -> bool:
    """Whether these are patterns such as `accuracy_nf4_*`, and not metrics."""
    return any(metric.endswith(STAR) for metric in metrics)


def cells_by_ending(path: Path, by: Sequence[str], patterns: Sequence[str]) -> list[Cell]:
    """Like `cells`, with one cell for each number; the number comes after the values of `by`.

    Raises:
        UserError: no metric fits a pattern.
    """
    known = parquet.read_schema(path).names
    fitting = {pattern.removesuffix(STAR): _fitting(pattern, known) for pattern in patterns}
    numbers = sorted({number for found in fitting.values() for number in found})
    made = []
    for cell in cells(path, by, [metric for found in fitting.values() for metric in found.values()]):
        for number in numbers:
            means: dict[str, Interval | None] = {
                family: cell.means.get(found.get(number, "")) for family, found in fitting.items()
            }
            made.append(Cell((*cell.values, number), cell.runs, means))
    return made


def _fitting(pattern: str, known: Sequence[str]) -> dict[int, str]:
    """Number -> the metric that ends with it."""
    start = re.escape(pattern.removesuffix("*"))
    found = {int(name[len(pattern) - 1 :]): name for name in known if re.fullmatch(rf"{start}\d+", name)}
    if not found:
        raise UserError(f'No run recorded a metric "{pattern}".{nearest(pattern, known)}')
    return found


def ask(path: Path, question: str) -> tuple[list[str], list[tuple]]:
    """Run an SQL query on the table `runs` with DuckDB; return column names and rows.

    Raises:
        UserError: DuckDB cannot run the query.
    """
    with duckdb.connect() as connection:
        connection.from_parquet(str(path)).create_view("runs")
        # The runs are copied to memory, so that the query can be kept from reading or writing anything on the disk.
        connection.execute("CREATE TABLE kept AS SELECT * FROM runs; DROP VIEW runs; ALTER TABLE kept RENAME TO runs")
        connection.execute("SET enable_external_access = false")
        try:
            answer = connection.execute(question)
            return [column[0] for column in answer.description], answer.fetchall()
        except duckdb.Error as error:
            raise UserError(f"DuckDB says: {str(error).splitlines()[0]}") from None
