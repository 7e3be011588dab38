"""The learner's own copy of the lessons, which `workbook lab` opens: blank exercises, no outputs, free to edit.

    my-lessons/notebooks/     the lessons, edited by the learner
    my-lessons/docs/          the guides that the lessons link to
    my-lessons/earlier/       the learner's notebooks from before they were merged into a newer version of a lesson
    my-lessons/.workbook/     every file as this module wrote it, to tell the learner's edits from a newer version

Nothing that a learner wrote is overwritten. When a lesson has changed, the learner's edits are merged into the new
version, and the learner's old notebook is kept in `earlier`.
"""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from helpers.files import sha256, write_text
from helpers.paths import ROOT, expanded
from helpers.runtime import UserError
from workbook.editions.cells import EXERCISE, from_source, has, write_notebook
from workbook.lessons.lesson import Lesson, find

FOLDER = ROOT / "my-lessons"
MARK = ".workbook"
CHECK = re.compile(r"^check\(\s*[\"'](\d\d\.\d+)[\"']", re.MULTILINE)
OUTSIDE = re.compile(r"\[([^\]]*)\]\(\.\./(?!notebooks/)([^)]*)\)")  # a link to a file that the copy lacks


@dataclass
class Merged:
    """A new version of a lesson with a learner's edits merged in, and a record of what happened to each edit."""

    notebook: NotebookNode
    answers: list[str] = field(default_factory=list)  # exercises whose answer was copied into the new version
    edits: int = 0  # number of other changed or added cells that were carried over
    beside: list[str] = field(default_factory=list)  # changed exercises, with the learner's answer as text below them
    lost: list[str] = field(default_factory=list)  # descriptions of edits that could not be carried over
    below: dict[int, list[NotebookNode]] = field(default_factory=dict)  # index in the new version -> cells after it

    def answer(self, name: str, source: str, blank: str, place: int | None) -> None:
        """Merge an answer to an exercise; place: index of the exercise in the new version, None if it is gone."""
        if source == blank:
            return
        if place is None:
            self.lost.append(f"your answer to {name}, an exercise that is gone")
        elif self.notebook.cells[place].source == blank:
            self.notebook.cells[place].source = source
            self.answers.append(name)
        else:
            self.below.setdefault(place, []).append(_as_text(name, source))
            self.beside.append(name)

    def edit(self, cell: NotebookNode, old: NotebookNode, place: int | None) -> None:
        """Merge a learner's change of a cell; place: index of the old cell in the new version, None if it is gone."""
        if cell.source == old.source:
            return
        if place is not None:
            self.notebook.cells[place].source = cell.source
            self.edits += 1
        else:
            parameters = has(old, "parameters")
            self.lost.append("your values in the parameters cell" if parameters else f'your edit of "{_start(old)}"')

    def add(self, cell: NotebookNode, after: int) -> None:
        """Merge a cell that the learner added; after: index of the preceding cell in the new version."""
        if cell.source.strip():
            self.below.setdefault(after, []).append(_without_outputs(cell))
            self.edits += 1

    def finish(self) -> Merged:
        """Insert the collected cells at their places; return this object."""
        cells = self.below.get(-1, [])
        for place, cell in enumerate(self.notebook.cells):
            cells += [cell, *self.below.get(place, [])]
        self.notebook.cells = _with_own_ids(cells)
        nbformat.validate(self.notebook)
        return self


def working_copy(folder: Path | None = None, lessons: list[Lesson] | None = None) -> tuple[Path, list[str]]:
    """Create or update the learner's copy of the lessons; return its folder and the messages for the learner.

    Raises:
        UserError: the folder cannot be written, or it contains something other than a copy of the lessons.
    """
    place = expanded(folder or FOLDER).absolute()
    _claim(place)
    said = [f"Your copy of the lessons is {place}. Edit there: `git pull` changes nothing in it."]
    replaced = []
    for lesson in find() if lessons is None else lessons:
        try:
            sentence = _bring(lesson, place)
        except UserError as problem:
            sentence = f"{lesson.name} was not brought up to date: {problem}"
        if sentence == "":
            replaced.append(lesson.number)
        elif sentence is not None:
            said.append(sentence)
    if replaced:
        said.append(f"Newer versions of the lessons you had not edited: {', '.join(replaced)}.")
    for guide in sorted((ROOT / "docs").glob("*.md")):
        _bring_text(OUTSIDE.sub(r"\1 (\2)", guide.read_text(encoding="utf-8")), place, f"docs/{guide.name}")
    return place, said


def merge(base: NotebookNode, mine: NotebookNode, new: NotebookNode) -> Merged:
    """Merge the edits that lead from `base` to `mine` into the `new` version; exercises are matched by name."""
    merged = Merged(copy.deepcopy(new))
    before = {cell.id: cell for cell in base.cells}
    blanks = {name: cell for cell in base.cells if has(cell, EXERCISE) and (name := exercise_of(cell))}
    answers = {_answer_cell(mine, name, blank): name for name, blank in blanks.items()}
    now = {cell.id: place for place, cell in enumerate(new.cells)}
    now_blank = {exercise_of(cell): place for place, cell in enumerate(new.cells) if has(cell, EXERCISE)}
    last = -1
    for cell in mine.cells:
        name, place = answers.get(cell.id), now.get(cell.id)
        if name is not None:
            place = now_blank.get(name)
            merged.answer(name, cell.source, blanks[name].source, place)
        elif cell.id in before:
            merged.edit(cell, before[cell.id], place)
        elif place is None:
            merged.add(cell, last)
        last = last if place is None else place
    return merged.finish()


def exercise_of(cell: NotebookNode) -> str | None:
    """The name of the exercise that a cell checks, or None; the cell need not be valid Python."""
    found = CHECK.search(cell.source) if cell.cell_type == "code" else None
    return found.group(1) if found else None


def _claim(place: Path) -> None:
    """Create the folder and mark it as a copy; refuse a folder with other content."""
    inside = place.resolve()
    if inside == ROOT or inside.is_relative_to(ROOT / "notebooks"):
        raise UserError(
            f"{place} holds the course's own notebooks: choose another folder for your copy of the lessons."
        )
    try:
        place.mkdir(parents=True, exist_ok=True)
        others = [path.name for path in place.iterdir()]
        if others and MARK not in others:
            raise UserError(f"{place} holds other files, such as {min(others)}: choose an empty or a new folder.")
        (place / MARK).mkdir(exist_ok=True)
        writable = os.access(place, os.W_OK) and os.access(place / MARK, os.W_OK)
    except OSError as error:
        raise UserError(_unwritable(place, error.strerror or type(error).__name__)) from None
    if not writable:
        raise UserError(_unwritable(place, "permission denied"))


def _unwritable(place: Path, why: str) -> str:
    return f"{place} cannot be written ({why.lower()}): choose another folder with --folder."


def _bring(lesson: Lesson, place: Path) -> str | None:
    """Create or update a lesson in the copy; return a message, "" if an unedited lesson was updated, else None."""
    path, kept = place / "notebooks" / lesson.path.name, place / MARK / lesson.path.name
    made_from = sha256(lesson.source) if lesson.source.is_file() else ""
    if not path.exists():
        _write(path, kept, from_source(lesson.source), made_from)
        return None
    base, mine = _read(kept), _read(path)
    if base is None or mine is None:
        return f"{path.name} in your copy was left as it is, because it cannot be read as a notebook of this course."
    if base.metadata.get("made_from") == made_from:
        return None
    new = from_source(lesson.source)
    merged = merge(base, mine, new)
    edited = [(cell.id, cell.source) for cell in mine.cells] != [(cell.id, cell.source) for cell in base.cells]
    if not edited and not any(cell.get("outputs") for cell in mine.cells):
        _write(path, kept, new, made_from)
        return ""
    earlier = _set_aside(path, place)
    _write(path, kept, new, made_from, merged.notebook)
    return _told(lesson, merged, earlier) if edited else ""


def _told(lesson: Lesson, merged: Merged, earlier: Path) -> str:
    carried = [f"your answers to {', '.join(merged.answers)}"] if merged.answers else []
    carried += [f"{merged.edits} other cell{'s' if merged.edits > 1 else ''} of yours"] if merged.edits else []
    said = f"{lesson.name} has a newer version."
    if carried:
        said += f" It has {' and '.join(carried)}."
    if merged.beside:
        said += f" The exercise changed in {', '.join(merged.beside)}: your answer stands below it as text."
    if merged.lost:
        said += f" Not carried over: {'; '.join(merged.lost)}."
    return f"{said} Your notebook as it was: {earlier.parent.name}/{earlier.name}."


def _write(path: Path, kept: Path, new: NotebookNode, made_from: str, merged: NotebookNode | None = None) -> None:
    """Write the learner's file first: if writing `kept` then fails, the next start merges again."""
    write_notebook(path, merged or new)
    base = copy.deepcopy(new)
    base.metadata["made_from"] = made_from
    write_notebook(kept, base)


def _set_aside(path: Path, place: Path) -> Path:
    """Copy the learner's notebook to `earlier` under a new name; return the copy's path."""
    folder = place / "earlier"
    folder.mkdir(exist_ok=True)
    now = datetime.now().strftime("%Y-%m-%d-%H%M%S")
    names = (f"{path.stem}-{now}{more}.ipynb" for more in ("", *(f"-{number}" for number in range(2, 1000))))
    target = next(folder / name for name in names if not (folder / name).exists())
    shutil.copy2(path, target)
    return target


def _bring_text(text: str, place: Path, name: str) -> None:
    """Write or update a guide, unless the learner has edited it."""
    path, kept = place / name, place / MARK / name
    if path.exists() and (not kept.exists() or path.read_bytes() != kept.read_bytes()):
        return
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)
        write_text(kept, text)


def _read(path: Path) -> NotebookNode | None:
    """The notebook; None if the file is missing, damaged or not in notebook format 4."""
    try:
        text = path.read_text(encoding="utf-8")
        if json.loads(text)["nbformat"] != 4:
            return None
        notebook = nbformat.reads(text, as_version=4)
        nbformat.validate(notebook)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, nbformat.ValidationError):
        return None
    return notebook


def _answer_cell(mine: NotebookNode, name: str, blank: NotebookNode) -> str | None:
    """The identifier of the cell with the learner's answer: the blank cell, else a cell that checks the exercise."""
    same = [cell.id for cell in mine.cells if cell.id == blank.id]
    return next(iter([*same, *(cell.id for cell in mine.cells if exercise_of(cell) == name)]), None)


def _as_text(name: str, source: str) -> NotebookNode:
    text = f"Your answer to {name} as it was before the exercise changed:\n\n````python\n{source}\n````"
    return nbformat.v4.new_markdown_cell(text)


def _without_outputs(cell: NotebookNode) -> NotebookNode:
    cell = copy.deepcopy(cell)
    if cell.cell_type == "code":
        cell.outputs, cell.execution_count = [], None
    return cell


def _with_own_ids(cells: list[NotebookNode]) -> list[NotebookNode]:
    """The cells, with duplicate identifiers replaced by new ones."""
    seen: set[str] = set()
    for cell in cells:
        while cell.id in seen:
            cell.id = nbformat.v4.new_code_cell().id
        seen.add(cell.id)
    return cells


def _start(cell: NotebookNode) -> str:
    line = cell.source.strip().splitlines()[0] if cell.source.strip() else ""
    return line if len(line) <= 50 else f"{line[:47]}..."
