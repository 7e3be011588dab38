"""Compute the overhead of `workbook run` over the lessons' own work, from a finished run folder.

A lesson's own work is the sum of its cells' seconds. The overhead is starting Python and the kernel, saving, and
writing the page. Cells up to the one that calls `start(` only import and check. A second row counts them as overhead.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import nbformat

from benchmarks.steps.harness import Row, Spread, Target
from helpers.paths import ROOT
from helpers.runtime import UserError
from workbook.engine.ledger import OUTCOME
from workbook.lessons import find

RUNS = ROOT / "runs"
AT_MOST = Target("at most", 1.25)


@dataclass(frozen=True)
class Spent:
    """Seconds of one lesson: from start to end, in all its cells, and in the cells up to `start(`."""

    lesson: str
    whole: float
    cells: float
    set_up: float


def spent(folder: Path) -> Spent:
    """Read the seconds of a lesson from its folder in a run.

    Raises:
        UserError: the lesson did not finish.
    """
    outcome = json.loads((folder / OUTCOME).read_text())
    if outcome["status"] != "done":
        raise UserError(f"{folder.name} in {folder.parent.name} was not done; run it again.")
    cells = nbformat.read(folder / f"{folder.name}.ipynb", as_version=4).cells
    seconds = [cell.metadata.get("papermill", {}).get("duration") or 0.0 for cell in cells]
    starts = [place for place, cell in enumerate(cells) if cell.cell_type == "code" and "start(" in cell.source]
    first = starts[0] + 1 if starts else 0
    return Spent(folder.name, outcome["seconds"], sum(seconds), sum(seconds[:first]))


def newest(runs: Path = RUNS) -> Path | None:
    """Return the latest folder under runs/ in which every lesson has an outcome, or None."""
    names = {lesson.name for lesson in find()}
    whole = [
        path for path in runs.glob("*/") if names <= {outcome.parent.name for outcome in path.glob(f"*/{OUTCOME}")}
    ]
    return max(whole, key=lambda path: path.name, default=None)


def rows_of(folder: Path) -> list[Row]:
    """Return the ratio of all seconds to the cells' seconds for the course, with the extremes of single lessons."""
    lessons = [spent(outcome.parent) for outcome in sorted(folder.glob(f"*/{OUTCOME}"))]
    if not lessons:
        raise UserError(f"There is no finished lesson in {folder.name}; give the folder of a whole run.")
    each = [one.whole / one.cells for one in lessons]
    whole, cells, set_up = (sum(getattr(one, name) for one in lessons) for name in ("whole", "cells", "set_up"))
    note = f"{len(lessons)} lessons; least and most are single lessons"
    sides = f"run, {whole:.0f} s", f"all cells, {cells:.0f} s"
    strict = [one.whole / max(one.cells - one.set_up, 0.001) for one in lessons]
    return [
        Row("whole course", *sides, Spread(whole / cells, min(each), max(each)), AT_MOST, note),
        Row(
            "whole course, imports counted as overhead",
            sides[0],
            f"cells after the set-up, {cells - set_up:.0f} s",
            Spread(whole / (cells - set_up), min(strict), max(strict)),
            AT_MOST,
            "a lesson that has little to do is mostly imports: see the most",
        ),
    ]


def measure(rounds: int, toy: bool, folder: Path | None = None) -> list[Row]:
    """Measure the run in `folder`, or the newest run of all lessons under runs/.

    Raises:
        UserError: there is no such run.
    """
    folder = folder or newest()
    if folder is None:
        raise UserError("There is no run of all lessons under runs/; make one with: make run")
    return rows_of(folder)
