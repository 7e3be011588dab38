"""A lesson's cells for one reader: read from the source, without what the reader is not to see, and written."""

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
    """The notebook of a text twin, not executed: the learner's, or with `solutions` and notes the instructor's.

    Raises:
        UserError: the source is missing.
    """
    return notebook_of(read(source) if solutions else [cell for cell in read(source) if not hidden(cell)])


def read(source: Path) -> list[NotebookNode]:
    """All cells of a text twin.

    Raises:
        UserError: the source is missing.
    """
    try:
        return jupytext.read(source, fmt="py:percent").cells
    except FileNotFoundError:
        raise UserError(f"{source.name} is missing from notebooks/source.") from None


def hidden(cell: NotebookNode) -> bool:
    """Whether a learner is not to see this cell."""
    return has(cell, SOLUTION) or has(cell, INSTRUCTOR)


def has(cell: NotebookNode, tag: str) -> bool:
    """Whether a cell carries `tag`."""
    return tag in cell.metadata.get("tags", [])


def notebook_of(cells: list[NotebookNode]) -> NotebookNode:
    """A notebook of these cells: of their metadata only tags and what nbgrader reads stay; names follow content."""
    seen: dict[str, int] = {}
    for cell in cells:
        cell.metadata = NotebookNode({key: cell.metadata[key] for key in ("tags", "nbgrader") if key in cell.metadata})
        cell.id = _cell_id(cell.cell_type + cell.source, seen)
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=METADATA)
    notebook.nbformat_minor = 5
    nbformat.validate(notebook)
    return notebook


def with_parameters(notebook: NotebookNode, values: dict[str, object], comment: str = "Parameters") -> NotebookNode:
    """The notebook with a cell of other values below its parameters, as papermill puts it in."""
    for cell in notebook.cells:
        cell.metadata.setdefault("tags", [])
    notebook.metadata["papermill"] = {}  # what papermill expects to find in a notebook that it did not load
    return parameterize_notebook(notebook, values, comment=comment)


def write_notebook(path: Path, notebook: NotebookNode) -> Path:
    """Write a notebook as every command here does, with one line break at its end; return the file.

    Raises:
        UserError: the folder cannot be written.
    """
    return write_text(path, nbformat.writes(notebook, version=4).rstrip("\n") + "\n")


def _cell_id(content: str, seen: dict[str, int]) -> str:
    """An identifier that depends on a cell's content alone, so that a rebuild changes only what was edited."""
    digest = hashlib.sha256(content.encode()).hexdigest()[:10]
    seen[digest] = seen.get(digest, 0) + 1
    return digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"
