"""What the lessons measured, from whichever file there is: one table for all lessons, or a reference for each.

`data/reference/results.parquet` has a row for every number that a lesson recorded: lesson ("02"), seed, metric, value;
its schema's metadata tell under `reference` (JSON), for each lesson, the command, date, machine, threads, versions and
parameters. A lesson that it holds is read from it alone; the others from the JSON files of `make reference` with names.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from helpers.files import write_parquet
from helpers.reference import FOLDER, Reference, load_reference
from helpers.runtime import UserError

TABLE = "results.parquet"
COLUMNS = ("lesson", "seed", "metric", "value")
FILES = {
    "02": "ladder", "03": "pitfalls", "04": "instructions", "05": "rlhf", "06": "dpo", "07": "peft_methods",
    "08": "lora", "09": "lora_variants", "11": "qlora",
}  # fmt: skip
# Where a reference's command calls a metric otherwise than the lesson does: theirs -> the lesson's.
RENAMED = {
    "04": {
        "exact_told_base": "exact_answer_rate_base", "exact_skills_base": "exact_answer_rate_base_skills",
        "exact_told_sft": "exact_answer_rate_sft", "exact_skills_sft": "exact_answer_rate_skills",
        "made_up_untold_sft": "made_up_answer_rate_sft",
    },
}  # fmt: skip
LESSON_KL_WEIGHT = 0.2  # lesson 05's own; its reference sweeps several and numbers them


@dataclass(frozen=True)
class Measured:
    """One lesson's results: metric -> seed -> value, and whose they are."""

    metrics: Mapping[str, Mapping[int, float]]
    label: str
    settings: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Results:
    """The results of all lessons, by the lesson's number."""

    lessons: Mapping[str, Measured]

    def runs(self, lesson: str, metrics: Sequence[str]) -> list[tuple[float, ...]]:
        """For every seed that has all of these metrics, their values; empty where a metric was never recorded."""
        if lesson not in self.lessons:
            return []
        found = [self.lessons[lesson].metrics.get(metric, {}) for metric in metrics]
        seeds = sorted(set.intersection(*(set(values) for values in found)))
        return [tuple(values[seed] for values in found) for seed in seeds]

    def values(self, lesson: str, metric: str) -> list[float]:
        """One metric's values over the seeds."""
        return [value for (value,) in self.runs(lesson, [metric])]


def load(folder: Path = FOLDER) -> Results:
    """The reference results.

    Raises:
        UserError: a file is there and cannot be read.
    """
    found = dict(_from_files(folder))
    if (folder / TABLE).is_file():
        found |= read_table(folder / TABLE)
    return Results(found)


def read_table(path: Path) -> dict[str, Measured]:
    """The lessons of `results.parquet`.

    Raises:
        UserError: it is no such table.
    """
    metrics: dict[str, dict[str, dict[int, float]]] = {}
    rows, about = read_rows(path)
    for lesson, seed, metric, value in rows:
        metrics.setdefault(lesson, {}).setdefault(metric, {})[seed] = value
    return {
        lesson: Measured(found, _label(found, about[lesson]), about[lesson]["parameters"])
        for lesson, found in metrics.items()
    }


def read_rows(path: Path) -> tuple[list[tuple[str, int, str, float]], dict[str, dict]]:
    """The table as it is: rows (lesson, seed, metric, value), and of each lesson how it was made.

    Raises:
        UserError: it is no such table.
    """
    from pyarrow import ArrowInvalid, parquet

    try:
        table = parquet.read_table(path)
        about = json.loads((table.schema.metadata or {})[b"reference"])
        rows = [tuple(row[name] for name in COLUMNS) for row in table.select(list(COLUMNS)).to_pylist()]
        for lesson in {row[0] for row in rows}:
            if not isinstance(about[lesson]["parameters"], dict):
                raise ValueError(f"nothing is said of lesson {lesson}")
    except (ArrowInvalid, KeyError, ValueError, TypeError, OSError) as error:
        raise UserError(f"{path.name} in data/reference cannot be read ({error}); make reference") from None
    return rows, about


def write_table(path: Path, rows: Sequence[tuple[str, int, str, float]], about: Mapping[str, Mapping]) -> Path:
    """Write `results.parquet`; rows: (lesson, seed, metric, value); about: lesson -> command, date, parameters, ..."""
    import pyarrow

    columns = dict(zip(COLUMNS, zip(*rows, strict=True), strict=True))
    types = (pyarrow.string(), pyarrow.int64(), pyarrow.string(), pyarrow.float64())
    arrays = [pyarrow.array(columns[name], kind) for name, kind in zip(COLUMNS, types, strict=True)]
    table = pyarrow.table(arrays, names=list(COLUMNS)).replace_schema_metadata({"reference": json.dumps(dict(about))})
    return write_parquet(path, table)


def _label(metrics: Mapping[str, Mapping[int, float]], about: Mapping[str, object]) -> str:
    seeds = max(len(values) for values in metrics.values())
    told = ", ".join(str(about[name]) for name in ("machine", "date") if name in about)
    return f"{seeds} seeds, {told}, by `{about.get('command', 'make reference')}`"


def _from_files(folder: Path) -> Iterator[tuple[str, Measured]]:
    for lesson, name in FILES.items():
        if (folder / f"{name}.json").is_file():
            reference = load_reference(name, folder)
            yield lesson, Measured(_numbers(lesson, reference), reference.label, reference.settings)


def _numbers(lesson: str, reference: Reference) -> dict[str, dict[int, float]]:
    """The metrics that are single numbers, by the names that the lesson gives them."""
    names = RENAMED.get(lesson, {}) | (_kept_leash(reference) if lesson == "05" else {})
    return {
        names.get(metric, metric): dict(zip(reference.seeds, values, strict=True))
        for metric, values in reference.metrics.items()
        if all(isinstance(value, int | float) for value in values)
    }


def _kept_leash(reference: Reference) -> dict[str, str]:
    """Lesson 05's PPO is one column of its reference's sweep: the one with the lesson's KL weight."""
    weights = list(reference.settings.get("kl_weights", []))
    if LESSON_KL_WEIGHT not in weights:
        return {}
    column = weights.index(LESSON_KL_WEIGHT)
    return {f"{what}_sweep_{column}": f"{what}_ppo" for what in ("true_reward", "proxy", "kl")}
