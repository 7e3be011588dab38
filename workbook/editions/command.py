"""`make editions`: writes the learner's, the instructor's and nbgrader's notebooks from the lessons' sources.

python -m workbook.editions [NN ...] [--into FOLDER] [--only learner|instructor|nbgrader] [--points N] [--budget quick]
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click
from nbformat import NotebookNode

from helpers.files import write_text
from helpers.runtime import BUDGETS, UserError
from workbook.editions.cells import from_source, write_notebook
from workbook.editions.instructor import instructor
from workbook.editions.nbgrader import assignment
from workbook.lessons.lesson import NOTEBOOKS, Lesson, find, select

HERE = Path(__file__).resolve().parent
FOLDER = NOTEBOOKS.parent / "build" / "editions"
EDITIONS = ("learner", "instructor", "nbgrader")
COURSE_FILES = {"nbgrader_config.txt": "nbgrader_config.py", "guide.md": "README.md"}


def write(lesson: Lesson, into: Path, makers: dict[str, Callable[[Path], NotebookNode]]) -> list[Path]:
    """Write one lesson's unexecuted notebook for each edition in `makers`; return the files.

    Raises:
        UserError: the source is missing, an exercise is malformed, or the folder cannot be written.
    """
    written = []
    for edition, make in makers.items():
        # nbgrader expects one folder per assignment below `source`.
        parts = ("source", lesson.name) if edition == "nbgrader" else ()
        path = into.joinpath(edition, *parts, lesson.path.name)
        written.append(write_notebook(path, make(lesson.source)))
        _with_figures(lesson, path.parent)
    return written


def course_files(folder: Path) -> None:
    """Write nbgrader's settings and a short guide to `folder`; existing files are kept.

    Raises:
        UserError: the folder cannot be written.
    """
    for ours, theirs in COURSE_FILES.items():
        if not (folder / theirs).exists():
            write_text(folder / theirs, (HERE / ours).read_text(encoding="utf-8"))


def _with_figures(lesson: Lesson, folder: Path) -> None:
    """Copy the drawings that the lessons show to the folder of the notebook."""
    figures = lesson.path.parent / "figures"
    if figures.is_dir():
        shutil.copytree(figures, folder / figures.name, dirs_exist_ok=True)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("lessons", nargs=-1, metavar="[NN]...")
@click.option(
    "--into", type=click.Path(path_type=Path), default=FOLDER, help="Write to this folder.  [default: build/editions]"
)
@click.option(
    "--only", type=click.Choice(EDITIONS), multiple=True, help="Write only this edition; repeatable.  [default: all]"
)
@click.option("--points", default=1.0, type=click.FloatRange(0), help="nbgrader: points per exercise.  [default: 1]")
@click.option("--budget", type=click.Choice(BUDGETS), help="nbgrader: set this budget in a locked cell.")
def main(lessons: tuple[str, ...], into: Path, only: tuple[str, ...], points: float, budget: str | None) -> None:
    """Write the editions of the lessons NN (all of them by default).

    \b
    learner      blank exercises, no outputs
    instructor   each exercise followed by its solution and its hints
    nbgrader     a course folder for nbgrader: points, locked tests, and solutions that nbgrader removes
    """
    all_makers: dict[str, Callable[[Path], NotebookNode]] = {
        "learner": from_source,
        "instructor": instructor,
        "nbgrader": partial(assignment, points=points, budget=budget),
    }
    makers = {name: make for name, make in all_makers.items() if not only or name in only}
    try:
        for lesson in select(lessons, find(NOTEBOOKS)):
            write(lesson, into, makers)
            click.echo(f"{lesson.name}: {', '.join(makers)}")
        if "nbgrader" in makers:
            course_files(into / "nbgrader")
    except UserError as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"\nwritten to {into}")
