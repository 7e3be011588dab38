"""Reads and writes the table of every number that the lessons recorded over several seeds.

`data/reference/results.parquet` has a row for every number: lesson ("02"), seed, metric, value. Its schema's metadata
hold under `reference` (JSON), for each lesson, the command, date, machine, threads, versions and parameters.
`results_real.parquet` beside it is the same for their sections on published models and real text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet

from helpers.files import write_parquet
from helpers.reference import FOLDER, REAL_RESULTS
from helpers.runtime import UserError

FEWEST = 5  # smallest number of seeds of a reference
TABLE, REAL_TABLE = FOLDER / "results.parquet", REAL_RESULTS
ON_REAL_TEXT = "real_"  # prefix of the metrics of a section "On real text"
SCHEMA = pyarrow.schema(
    {"lesson": pyarrow.string(), "seed": pyarrow.int64(), "metric": pyarrow.string(), "value": pyarrow.float64()}
)
Rows = list[tuple[str, int, str, float]]  # lesson, seed, metric, value


@dataclass(frozen=True)
class LessonResults:
    """One lesson's results: metric -> seed -> value, with a label that names their source."""

    metrics: Mapping[str, Mapping[int, float]]
    label: str
    settings: Mapping[str, object] = field(default_factory=dict)

    @property
    def seeds(self) -> set[int]:
        """The seeds of which any metric is known."""
        return set().union(*self.metrics.values())


@dataclass(frozen=True)
class Results:
    """The results of all lessons, by the lesson's number."""

    lessons: Mapping[str, LessonResults]

    def runs(self, lesson: str, metrics: Sequence[str]) -> list[tuple[float, ...]]:
        """Return the metrics' values for every seed that has all of them; empty if a metric was never recorded."""
        if lesson not in self.lessons:
            return []
        found = [self.lessons[lesson].metrics.get(metric, {}) for metric in metrics]
        seeds = sorted(set.intersection(*(set(values) for values in found)))
        return [tuple(values[seed] for values in found) for seed in seeds]

    def values(self, lesson: str, metric: str) -> list[float]:
        """Return one metric's values over the seeds."""
        return [value for (value,) in self.runs(lesson, [metric])]


def load_results(path: Path = TABLE) -> Results:
    """Read the reference results, which are empty if the table is missing.

    Raises:
        UserError: the file is not such a table.
    """
    rows, about = read_rows(path)
    return Results(
        {
            lesson: LessonResults(metrics, _label(metrics, about[lesson]), about[lesson]["parameters"])
            for lesson, metrics in by_lesson(rows).items()
        }
    )


def by_lesson(rows: Rows) -> dict[str, dict[str, dict[int, float]]]:
    """Return lesson -> metric -> seed -> value; of two rows for the same seed, the later one counts."""
    found: dict[str, dict[str, dict[int, float]]] = {}
    for lesson, seed, metric, value in rows:
        found.setdefault(lesson, {}).setdefault(metric, {})[seed] = value
    return found


def rows_of(run: Mapping[str, Any]) -> Rows:
    """Return the rows of one run's `metrics.json`: its single numbers, without the curves."""
    lesson, seed = run["notebook"][:2], int(run["parameters"].get("seed", 0))
    numbers = {metric: value for metric, value in run["metrics"].items() if isinstance(value, int | float)}
    return [(lesson, seed, metric, float(value)) for metric, value in numbers.items()]


def read_rows(path: Path) -> tuple[Rows, dict[str, dict]]:
    """Read the table's rows, and how each lesson was measured; both are empty if there is no table.

    Raises:
        UserError: the file is not such a table.
    """
    if not path.is_file():
        return [], {}
    try:
        table = parquet.read_table(path)
        about = json.loads((table.schema.metadata or {})[b"reference"])
        rows = [tuple(row.values()) for row in table.select(SCHEMA.names).to_pylist()]
        for lesson in {row[0] for row in rows}:
            if not isinstance(about[lesson]["parameters"], dict):
                raise ValueError(f"lesson {lesson} has no parameters")
    except (pyarrow.ArrowInvalid, KeyError, ValueError, TypeError, OSError) as error:
        raise UserError(f"{path.name} in data/reference cannot be read ({error}); make reference") from None
    return rows, about


def write_table(path: Path, rows: Rows, about: Mapping[str, Mapping]) -> Path:
    """Write `results.parquet`; about: lesson -> command, date, machine, parameters, ..."""
    columns = dict(zip(SCHEMA.names, zip(*rows, strict=True), strict=True))
    schema = SCHEMA.with_metadata({"reference": json.dumps(dict(about))})
    return write_parquet(path, pyarrow.table(columns, schema=schema))


def _label(metrics: Mapping[str, Mapping[int, float]], about: Mapping[str, object]) -> str:
    seeds = max(len(values) for values in metrics.values())
    where = [str(about[name]) for name in ("machine", "date") if name in about]
    return f"{', '.join([f'{seeds} seeds', *where])}, by `{about.get('command', 'make reference')}`"
