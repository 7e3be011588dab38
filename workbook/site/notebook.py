"""A committed notebook as the site shows it: nothing is executed, every figure keeps its alternative text."""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Collection
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from helpers.runtime import UserError
from workbook.lessons.lesson import Lesson
from workbook.notebooks import WIDGET, WIDGET_TEXT
from workbook.site.links import relink

FIGURES = "figures"
TO_MOVE = (
    '<p class="to-move">Something to move is here in JupyterLab: <code>make lab</code> opens the lessons. '
    "The figure beside it says the same.</p>"
)


def shown(lesson: Lesson, extra: Path, pages: Collection[str]) -> NotebookNode:
    """The lesson's notebook with links, figures and widgets converted for a web page.

    Args:
        extra: the folder whose content Sphinx copies to the root of the site; figures are written to it.
        pages: all pages of the site, for the links.

    Raises:
        UserError: the notebook is missing or was never executed, or a figure has no alternative text.
    """
    lesson.cells  # noqa: B018 - raises a UserError if the file is missing or malformed
    notebook = nbformat.read(lesson.path, as_version=4)
    page = f"notebooks/{lesson.path.name}"
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = relink(cell.source, page, pages)
        elif cell.cell_type == "code":
            if cell.execution_count is None:
                raise UserError(f"{lesson.path.name} has cells without a result: make notebooks ARGS={lesson.number}")
            cell.outputs = [_output(output, lesson, extra, pages) for output in cell.outputs]
    _numbered(notebook, lesson)
    return notebook


def _numbered(notebook: NotebookNode, lesson: Lesson) -> None:
    """Insert the lesson's number below its title."""
    title, _, rest = notebook.cells[0].source.partition("\n")
    notebook.cells[0].source = f'{title}\n\n<p class="number">Lesson {lesson.number}</p>\n{rest}'


def _output(output: NotebookNode, lesson: Lesson, extra: Path, pages: Collection[str]) -> NotebookNode:
    data = output.get("data", {})
    if "image/png" in data:
        alt = output.metadata.get("image/png", {}).get("alt", "").strip()
        if not alt:
            raise UserError(f"a figure of {lesson.path.name} has no alternative text: show it with plots.show")
        data = {"text/html": figure_element(base64.b64decode(data["image/png"]), alt, extra)}
    elif WIDGET in data or data.get("text/plain") == WIDGET_TEXT:
        data = {"text/html": TO_MOVE}
    elif "text/markdown" in data:
        data = {"text/markdown": relink("".join(data["text/markdown"]), f"notebooks/{lesson.path.name}", pages)}
    if "data" in output:
        output.data = NotebookNode(data)
    return output


def figure_element(png: bytes, alt: str, extra: Path, up: str = "../") -> str:
    """Write a figure to a file named by its hash; return its HTML element. up: path from the page to the root."""
    name = f"{hashlib.sha256(png).hexdigest()[:16]}.png"
    (extra / FIGURES).mkdir(parents=True, exist_ok=True)
    (extra / FIGURES / name).write_bytes(png)
    width, height = (int.from_bytes(png[start : start + 4], "big") for start in (16, 20))  # both are in the PNG header
    said = html.escape(" ".join(alt.split()), quote=True)
    size = f'width="{width}" height="{height}"'
    file = f"{up}{FIGURES}/{name}"  # the figure links to its own file, at full size
    return f'<a href="{file}"><img class="measured" src="{file}" alt="{said}" {size} loading="lazy"></a>'
