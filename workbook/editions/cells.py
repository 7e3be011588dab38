"""Reads a lesson's cells from its source, drops those that the reader must not see, and writes the notebook."""

from __future__ import annotations

import hashlib
from pathlib import Path

import jupytext
import nbformat
from nbformat import NotebookNode
from papermill.parameterize import parameterize_notebook

from helpers.files import write_text
from helpers.runtime import UserError

EXERCISE = "exercise"
SOLUTION = "solution"
INSTRUCTOR = "instructor"
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python", "file_extension": ".py", "mimetype": "text/x-python"},
}


def from_source(source: Path, solutions: bool = False) -> NotebookNode:
    """Build the unexecuted notebook of a source: without solutions and instructor's notes, unless `solutions` is true.

    Raises:
        UserError: the source is missing.
    """
    return notebook_of(read(source) if solutions else [cell for cell in read(source) if not hidden(cell)])


def read(source: Path) -> list[NotebookNode]:
    """All cells of a lesson's source file.

    Raises:
        UserError: the source is missing.
    """
    try:
        return jupytext.read(source, fmt="py:percent").cells
    except FileNotFoundError:
        raise UserError(f"{source.name} is missing from notebooks/source.") from None


def hidden(cell: NotebookNode) -> bool:
    """Whether a cell is hidden from learners: a solution or a note for instructors."""
    return has(cell, SOLUTION) or has(cell, INSTRUCTOR)


def has(cell: NotebookNode, tag: str) -> bool:
    """Whether a cell carries `tag`."""
    return tag in cell.metadata.get("tags", [])


def notebook_of(cells: list[NotebookNode]) -> NotebookNode:
    """A notebook of these cells. Only tags and nbgrader's metadata are kept; identifiers depend on the content."""
    seen: dict[str, int] = {}
    for cell in cells:
        cell.metadata = NotebookNode({key: cell.metadata[key] for key in ("tags", "nbgrader") if key in cell.metadata})
        cell.id = _cell_id(cell.cell_type + cell.source, seen)
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=METADATA)
    notebook.nbformat_minor = 5
    nbformat.validate(notebook)
    return notebook


def with_parameters(notebook: NotebookNode, values: dict[str, object], comment: str = "Parameters") -> NotebookNode:
    """The notebook with papermill's cell of injected `values` below its parameters cell."""
    for cell in notebook.cells:
        cell.metadata.setdefault("tags", [])
    notebook.metadata["papermill"] = {}  # papermill needs this key, which it adds only when it loads a notebook
    return parameterize_notebook(notebook, values, comment=comment)


def write_notebook(path: Path, notebook: NotebookNode) -> Path:
    """Write a notebook with exactly one line break at its end; return its path.

    Raises:
        UserError: the folder cannot be written.
    """
    return write_text(path, nbformat.writes(notebook, version=4).rstrip("\n") + "\n")


def _cell_id(content: str, seen: dict[str, int]) -> str:
    """An identifier that depends only on a cell's content, so a rebuild changes those of edited cells only."""
    digest = hashlib.sha256(content.encode()).hexdigest()[:10]
    seen[digest] = seen.get(digest, 0) + 1
    return digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"
