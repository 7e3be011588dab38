"""Makes nbgrader's source notebook: each exercise has a cell with blank and solution, and a locked test cell.

For students, nbgrader removes the lines between the two solution marks. It gives the points of an exercise if its test
cell raises nothing (nbgrader's documentation, "Creating and grading assignments", 2024).
"""

from __future__ import annotations

from itertools import takewhile
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from helpers.runtime import UserError
from workbook.editions.cells import EXERCISE, hidden, notebook_of, read, with_parameters
from workbook.editions.exercises import Exercise, find_exercises

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
SCHEMA = 3


def assignment(source: Path, points: float = 1, budget: str | None = None) -> NotebookNode:
    """Build nbgrader's source notebook of one lesson, unexecuted.

    Args:
        points: the points of each exercise.
        budget: is set in a locked cell below the lesson's parameters; None keeps the lesson's own budget.

    Raises:
        UserError: the source is missing, or an exercise and its solution do not match.
    """
    cells = read(source)
    by_blank = {id(one.blank): one for one in find_exercises(cells)}
    kept = []
    for cell in cells:
        one = by_blank.get(id(cell))
        if one:
            kept += [answer_cell(one), points_cell(one, points)]
        elif not hidden(cell):
            kept.append(cell)
    notebook = notebook_of(kept)
    return notebook_of(_with_budget(notebook, budget).cells) if budget else notebook


def answer_cell(one: Exercise) -> NotebookNode:
    """The cell that a student edits: the exercise with its solution between nbgrader's marks.

    Raises:
        UserError: the blank has no line with `...` that the solution replaces.
    """
    hints = [line for line in one.blank.source.splitlines() if line.startswith("# hint(")]
    blank = [line for line in one.blank.source.splitlines() if line not in hints]
    solution = one.solution.source.splitlines()
    first = _same(blank, solution)
    last = _same(blank[first:][::-1], solution[first:][::-1])
    dots, answer = blank[first : len(blank) - last], solution[first : len(solution) - last]
    if not answer or not any("..." in line for line in dots):
        raise UserError(f"The exercise {one.name} has no line with dots that its solution replaces.")
    indent = dots[0][: len(dots[0]) - len(dots[0].lstrip())]
    answer = [indent + BEGIN, *answer, indent + END]
    # A solution's `return` comes first, so that the blank's `return ...` never runs. Any other solution comes last, so
    # that its value replaces the dots.
    middle = [*answer, *dots] if dots[0].lstrip().startswith("return") else [*dots, *answer]
    lines = [*blank[:first], *middle, *blank[len(blank) - last :], *hints]
    return _cell(lines, f"answer-{_slug(one)}", tags=[EXERCISE], solution=True)


def points_cell(one: Exercise, points: float) -> NotebookNode:
    """The locked cell that calls this workbook's check and raises unless the answer is right."""
    lines = ["from helpers.checks import assert_solved", "", f'assert_solved("{one.name}", {one.answer})']
    # This tag lets "run all" continue after an exercise that is not solved yet.
    return _cell(lines, f"test-{_slug(one)}", tags=["raises-exception"], grade=True, locked=True, points=points)


def _cell(lines: list[str], grade_id: str, *, tags: list[str], **given) -> NotebookNode:
    flags = {"grade": False, "solution": False, "locked": False, "task": False, **given}
    metadata = {"tags": tags, "nbgrader": {"grade_id": grade_id, "schema_version": SCHEMA, **flags}}
    return nbformat.v4.new_code_cell("\n".join(lines), metadata=metadata)


def _with_budget(notebook: NotebookNode, budget: str) -> NotebookNode:
    notebook = with_parameters(notebook, {"budget": budget}, comment="For grading")
    for place, cell in enumerate(notebook.cells):
        if "injected-parameters" in cell.metadata.tags:
            notebook.cells[place] = _cell(cell.source.splitlines(), "budget", tags=cell.metadata.tags, locked=True)
    return notebook


def _same(one: list[str], other: list[str]) -> int:
    """The number of equal lines at the start of both lists."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _slug(one: Exercise) -> str:
    return one.name.replace(".", "-")
