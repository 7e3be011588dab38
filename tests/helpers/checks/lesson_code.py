"""The code of an exercise as it stands in its lesson, run without running the lesson."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

from workbook.editions.cells import hidden, read
from workbook.editions.exercises import Exercise, find_exercises
from workbook.lessons import NOTEBOOKS

# What a lesson computes on the way to an exercise, and the exercise uses.
GIVEN = {"targets": ["query", "value"]}


def sources() -> dict[str, Path]:
    """Lesson number -> its source; a draft where there is no other."""
    found = [*(NOTEBOOKS / "drafts").glob("*.py"), *(NOTEBOOKS / "source").glob("*.py")]
    return dict(sorted((path.name[:2], path) for path in found))


@cache
def asked_in(number: str) -> dict[str, Exercise]:
    """The exercises that lesson "02" asks, by name."""
    return {one.name: one for one in find_exercises(read(sources()[number]))}


def answer(name: str, code: str) -> object:
    """What the cell `code` of an exercise hands to `check`, with the lesson's imports and definitions that it uses."""
    one = asked_in(name[:2])[name]
    statements = [part for part in ast.parse(code).body if not isinstance(part, ast.Expr)]
    space = dict(GIVEN)
    needed = [*_needed(statements, _defined(name)), *statements]
    exec(compile(ast.Module(needed, []), name, "exec"), space)
    return space[one.answer]


def _defined(name: str) -> dict[str, ast.stmt]:
    """Imports, functions, classes and plain values of the cells above an exercise: name -> statement."""
    found = {}
    for cell in read(sources()[name[:2]]):
        if cell.cell_type != "code":
            continue
        if f'check("{name}"' in cell.source:
            return found
        if not hidden(cell):
            for statement in ast.parse(cell.source).body:
                found |= dict.fromkeys(_names(statement), statement)
    return found


def _names(statement: ast.stmt) -> list[str]:
    match statement:
        case ast.Import(names) | ast.ImportFrom(names=names):
            return [alias.asname or alias.name.split(".")[0] for alias in names]
        case ast.FunctionDef(name) | ast.ClassDef(name):
            return [name]
        case ast.Assign([ast.Name(name)], ast.Constant()):
            return [name]
    return []


def _needed(statements: list[ast.stmt], defined: dict[str, ast.stmt]) -> list[ast.stmt]:
    """The definitions that these statements use, and those that they use, in the lesson's order."""
    wanted, queue = set(), list(statements)
    while queue:
        for node in ast.walk(queue.pop()):
            if isinstance(node, ast.Name) and node.id in defined and defined[node.id] not in wanted:
                wanted.add(defined[node.id])
                queue.append(defined[node.id])
    return [statement for statement in dict.fromkeys(defined.values()) if statement in wanted]
