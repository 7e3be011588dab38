"""Finds a lesson's exercises: the blank cell, the solution cell and the checked answer of each."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass

from nbformat import NotebookNode

from helpers.runtime import UserError
from workbook.editions.cells import EXERCISE, SOLUTION, has


@dataclass(frozen=True)
class Exercise:
    """One exercise of a lesson; its blank cell and its solution cell both contain `check(name, answer)`."""

    name: str
    answer: str
    blank: NotebookNode
    solution: NotebookNode


def find_exercises(cells: Iterable[NotebookNode]) -> list[Exercise]:
    """The exercises among a source's cells, in order.

    Raises:
        UserError: a blank cell is not followed by its solution, or the two cells do not contain the same check.
    """
    found, waiting = [], None
    for cell in [*cells, None]:
        if waiting is not None and (cell is None or not has(cell, SOLUTION)):
            raise UserError(f"The exercise {waiting[0]} has no cell with its solution right after it.")
        if cell is None:
            break
        if has(cell, EXERCISE):
            waiting = checked(cell)
            blank = cell
        elif has(cell, SOLUTION):
            if waiting != checked(cell):
                raise UserError(f"The solution of {checked(cell)[0]} does not follow its exercise, or checks another.")
            found.append(Exercise(*waiting, blank, cell))
            waiting = None
    return found


def checked(cell: NotebookNode) -> tuple[str, str]:
    """The names of the exercise that a cell checks and of the variable that holds the answer.

    Raises:
        UserError: the cell has no statement `check("NN.n", answer)` at its top level.
    """
    for statement in ast.parse(cell.source).body:
        match statement:
            case ast.Expr(ast.Call(ast.Name("check"), [ast.Constant(str() as name), ast.Name(answer)], [])):
                return name, answer
    raise UserError(f'A cell with an exercise or solution has no check("NN.n", answer): {cell.source[:60]!r}.')
