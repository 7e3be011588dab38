"""Expands a sweep's file into a list of runs: every combination once, each with its identity."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from jupyter_client.kernelspec import find_kernel_specs

from helpers.runtime import UserError, nearest
from workbook.engine.identity import run_identity, state_of
from workbook.lessons import Lesson, find, select
from workbook.lessons.parameters import declared
from workbook.sweeps.spec import Range, Sample, Sweep, read_spec
from workbook.sweeps.values import check_names, checked, checked_row

MOST = 100_000


@dataclass(frozen=True)
class Plan:
    """A sweep and all its `runs`: a run's identity -> the parameters that its notebook gets."""

    name: str
    file: Path
    sweep: Sweep
    lesson: Lesson
    state: dict[str, str]
    kernel: str
    runs: dict[str, dict[str, object]]
    duplicates: int

    @property
    def varied(self) -> list[str]:
        """The parameters that differ between cells of the grid, without the seed."""
        return [name for name in varied(self.sweep) if name != "seed"]


def varied(sweep: Sweep) -> list[str]:
    """The parameters that differ between runs."""
    names = list(sweep.grid or (sweep.sample.values if sweep.sample else {}))
    names += [name for case in sweep.cases or [] for name in case] + (["seed"] if sweep.seeds else [])
    return list(dict.fromkeys(names))


def make_plans(file: Path, notebooks: Path) -> list[Plan]:
    """Read, check and expand a sweep's file; return one plan for each lesson that it names.

    Raises:
        UserError: the file or a notebook is invalid; the message names the first error.
    """
    sweep = read_spec(file)
    _check_figure(sweep)
    if isinstance(sweep.notebook, str):
        return [_plan(file, sweep, _lesson(sweep.notebook, notebooks), file.stem)]
    lessons = {lesson.number: lesson for lesson in (_lesson(name, notebooks) for name in sweep.notebook)}
    return [_plan(file, sweep, lesson, f"{file.stem}-{number}") for number, lesson in lessons.items()]


def _plan(file: Path, sweep: Sweep, lesson: Lesson, name: str) -> Plan:
    rows = list(_rows(sweep, declared(lesson), lesson.name))
    state = state_of(lesson)
    runs = {run_identity(state, parameters): parameters for parameters in rows}
    return Plan(name, file.resolve(), sweep, lesson, state, kernel_of(lesson), runs, len(rows) - len(runs))


def kernel_of(lesson: Lesson) -> str:
    """The name of the notebook's kernel, after a check that Jupyter has it.

    Raises:
        UserError: Jupyter does not have it.
    """
    metadata = json.loads(lesson.path.read_text(encoding="utf-8")).get("metadata", {})
    name, known = metadata.get("kernelspec", {}).get("name", "python3"), find_kernel_specs()
    if name not in known:
        raise UserError(
            f'Jupyter knows no kernel "{name}", which {lesson.path.name} asks for.{nearest(name, known)} '
            f"There are: {', '.join(sorted(known)) or 'none'}; `make doctor` says how to fix it."
        )
    return name


def _lesson(name: str, notebooks: Path) -> Lesson:
    if "/" in name or "\\" in name or ".." in name:
        raise UserError(f'notebook: "{name}" is a path; name a lesson of {notebooks.name}/, such as "02".')
    lesson = select([name], find(notebooks.resolve()))[0]
    if lesson.path.exists() and not lesson.path.resolve().is_relative_to(notebooks.resolve()):
        raise UserError(f"notebook: {lesson.path.name} is a link that leads out of {notebooks.name}/.")
    try:
        lesson.tagged("")
    except (KeyError, TypeError, AttributeError):
        raise UserError(f"{lesson.path.name} is not a notebook: `make notebooks` builds it again.") from None
    return lesson


def _check_figure(sweep: Sweep) -> None:
    """Raise a UserError for a mistake in the figure, before the runs spend hours."""
    figure, names = sweep.figure, varied(sweep)
    ends = figure is not None and figure.metrics[0].endswith("_*")
    for field, name in [("x", figure.x), ("lines", figure.lines)] if figure else []:
        if name and name not in names and not (ends and field == "x"):
            raise UserError(f'figure.{field}: "{name}" is not varied.{nearest(name, names)}')


def _rows(sweep: Sweep, table: dict[str, object], lesson: str) -> Iterator[dict[str, object]]:
    """Every combination of fixed values, one cell of the grid, and a seed."""
    fixed = checked_row(sweep.fixed, table, "fixed", lesson)
    if sweep.seeds:
        check_names(["seed"], table, "seeds", lesson)
    cells = _cells(sweep, table, lesson)
    if any("seed" in cell for cell in [fixed, *cells]) and sweep.seeds:
        raise UserError("seeds: the seed is given twice, here and among the other parameters.")
    again = sorted(set(fixed) & {name for cell in cells for name in cell})
    if again:
        raise UserError(f"fixed.{again[0]}: {again[0]} is varied as well; take one of the two out.")
    for cell in cells:
        for seed in [{"seed": seed} for seed in sweep.seeds] or [{}]:
            yield {**fixed, **cell, **seed}


def _cells(sweep: Sweep, table: dict[str, object], lesson: str) -> list[dict[str, object]]:
    if sweep.grid is not None:
        return _grid(sweep.grid, table, lesson, max(1, len(sweep.seeds)))
    if sweep.cases is not None:
        return _cases(sweep.cases, table, lesson)
    return _drawn(sweep.sample, table, lesson) if sweep.sample else [{}]


def _grid(grid: dict[str, list], table: dict, lesson: str, seeds: int) -> list[dict[str, object]]:
    check_names(grid, table, "grid", lesson)
    for name, values in grid.items():
        if not values:
            raise UserError(f"grid.{name}: the list is empty, so there is nothing to run.")
    if not grid:
        raise UserError("grid: it is empty, so there is nothing to run.")
    count = math.prod(len(values) for values in grid.values()) * seeds
    if count > MOST:
        raise UserError(f"grid: it makes {count:,} runs, more than {MOST:,}; take a `sample:` of it instead.")
    lists = [
        [checked(name, value, table[name], f"grid.{name}[{place}]") for place, value in enumerate(values)]
        for name, values in grid.items()
    ]
    return [dict(zip(grid, values, strict=True)) for values in product(*lists)]


def _cases(cases: list[dict], table: dict, lesson: str) -> list[dict[str, object]]:
    if not cases:
        raise UserError("cases: the list is empty, so there is nothing to run.")
    return [checked_row(case, table, f"cases[{place}]", lesson) for place, case in enumerate(cases)]


def _drawn(sample: Sample, table: dict, lesson: str) -> list[dict[str, object]]:
    check_names(sample.values, table, "sample.values", lesson)
    if sample.runs > MOST:
        raise UserError(f"sample.runs: {sample.runs:,} are more than {MOST:,}.")
    chance = random.Random(sample.seed)
    return [
        {name: _draw(name, source, table[name], chance) for name, source in sample.values.items()}
        for _ in range(sample.runs)
    ]


def _draw(name: str, source: Range | list, default: object, chance: random.Random) -> object:
    where = f"sample.values.{name}"
    if isinstance(source, list):
        if not source:
            raise UserError(f"{where}: the list is empty, so there is nothing to draw.")
        return checked(name, chance.choice(source), default, where)
    if isinstance(default, bool) or not isinstance(default, int | float):
        raise UserError(f"{where}: {name} is no number, so it needs a list to draw from, not a range.")
    if source.scale == "log":
        number = math.exp(chance.uniform(math.log(source.low), math.log(source.high)))
    else:
        number = chance.uniform(source.low, source.high)
    return checked(name, round(number) if isinstance(default, int) else float(f"{number:.4g}"), default, where)
