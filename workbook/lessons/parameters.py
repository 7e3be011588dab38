"""Reads a lesson's parameters from its `parameters` cell, and checks given values against them before a run."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterable, Sequence

from helpers.runtime import BUDGETS, TRACKS, UserError, choose, nearest
from workbook.lessons.lesson import Lesson

TAG = "parameters"
CHOICES = {"track": TRACKS, "budget": BUDGETS}
KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", list: "a list like [1, 2]"}


def declared(lesson: Lesson) -> dict[str, object]:
    """Name -> default, in the order of the lesson's `parameters` cell.

    Raises:
        UserError: there is not exactly one such cell, or it contains more than assignments of literals.
    """
    cells = lesson.tagged(TAG)
    if len(cells) != 1:
        raise UserError(f"{lesson.name} has {len(cells)} cells tagged `parameters`; it needs exactly one.")
    try:
        return {
            statement.targets[0].id: ast.literal_eval(statement.value)
            for statement in ast.parse(cells[0]["source"]).body
        }
    except (SyntaxError, ValueError, AttributeError, IndexError):
        raise UserError(f"The parameters cell of {lesson.name} may only hold lines like `seed = 0`.") from None


def resolve(lessons: Sequence[Lesson], given: Iterable[tuple[str, str]]) -> dict[str, dict[str, object]]:
    """Lesson name -> the checked values of the `given` parameters that the lesson declares.

    Raises:
        UserError: no chosen lesson has a parameter of that name, or its value does not fit.
    """
    tables = {lesson.name: declared(lesson) for lesson in lessons}
    known = sorted({name for table in tables.values() for name in table})
    values: dict[str, dict[str, object]] = {lesson.name: {} for lesson in lessons}
    for name, text in given:
        if name not in known:
            where = lessons[0].name if len(lessons) == 1 else "any of these lessons"
            raise UserError(
                f'There is no parameter "{name}" in {where}.{nearest(name, known)} There are: {", ".join(known)}.'
            )
        for lesson, table in tables.items():
            if name in table:
                values[lesson][name] = parse(name, text, table[name])
    return values


def parse(name: str, text: str, default: object) -> object:
    """`text` as a value of the default's type; only literals are parsed, so no code is executed.

    Raises:
        UserError: the text is not of this type, or not one of the allowed choices.
    """
    if name in CHOICES:
        return choose(name, text, CHOICES[name])
    if isinstance(default, str):
        return text
    value = _literal(text)
    if isinstance(default, float) and type(value) is int:
        value = float(value)
    if not fits(value, default):
        kind = KINDS.get(type(default), f"like {default!r}")
        raise UserError(f'{name} is "{text}", but it has to be {kind}, such as {default!r}.')
    return value


def _literal(text: str) -> object:
    try:
        return ast.literal_eval({"true": "True", "false": "False"}.get(text, text))
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None


def fits(value: object, default: object) -> bool:
    if isinstance(default, list):
        return isinstance(value, list) and (not default or all(fits(item, default[0]) for item in value))
    if isinstance(value, float) and not math.isfinite(value):
        return False
    return type(value) is type(default)
