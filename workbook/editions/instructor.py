"""The instructor's edition: the learner's cells, each exercise followed by its solution and its hints."""

from __future__ import annotations

from pathlib import Path

import nbformat
from nbformat import NotebookNode

from helpers.checks.registry import hints
from workbook.editions.cells import INSTRUCTOR, SOLUTION, has, notebook_of, read
from workbook.editions.exercises import checked


def instructor(source: Path) -> NotebookNode:
    """Build the unexecuted notebook of a source, with solutions and notes.

    Raises:
        UserError: the source is missing, or a solution has no check.
    """
    cells = []
    for cell in read(source):
        cells.append(cell)
        if has(cell, SOLUTION):
            cells += [note(name) for name, _ in [checked(cell)] if hints(name)]
    return notebook_of(cells)


def note(name: str) -> NotebookNode:
    """A note for instructors: the hints of an exercise, in the order in which a learner gets them."""
    lines = [f'**{name}, for the instructor.** What `hint("{name}")` says, one after the other:', ""]
    for place, text in enumerate(hints(name), 1):
        lines += [f"{place}. {text}"] if "\n" not in text else [f"{place}. In code:", "", *_indented(text)]
    return nbformat.v4.new_markdown_cell("\n".join(lines), metadata={"tags": [INSTRUCTOR]})


def _indented(code: str) -> list[str]:
    return [f"   {line}" for line in ("```python", *code.splitlines(), "```")]
