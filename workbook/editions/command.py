"""`make editions`: the learner's, the instructor's and nbgrader's notebooks, written from the one source.

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
    """Write these editions of one lesson, none of them executed; return the files.

    Raises:
        UserError: the source is missing or an exercise is badly formed, or the folder cannot be written.
    """
    written = []
    for edition, make in makers.items():
        # nbgrader wants a folder for each assignment below `source`.
        parts = ("source", lesson.name) if edition == "nbgrader" else ()
        path = into.joinpath(edition, *parts, lesson.path.name)
        written.append(write_notebook(path, make(lesson.source)))
        _with_figures(lesson, path.parent)
    return written


def course_files(folder: Path) -> None:
    """Put nbgrader's settings and a short guide into its folder; settings that are there already stay.

    Raises:
        UserError: the folder cannot be written.
    """
    for ours, theirs in COURSE_FILES.items():
        if not (folder / theirs).exists():
            write_text(folder / theirs, (HERE / ours).read_text(encoding="utf-8"))


def _with_figures(lesson: Lesson, folder: Path) -> None:
    """The drawings that lessons show beside their notebooks."""
    figures = lesson.path.parent / "figures"
    if figures.is_dir():
        shutil.copytree(figures, folder / figures.name, dirs_exist_ok=True)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("lessons", nargs=-1, metavar="[NN]...")
@click.option("--into", type=click.Path(path_type=Path), default=FOLDER, help="Folder.  [default: build/editions]")
@click.option("--only", type=click.Choice(EDITIONS), multiple=True, help="One edition; repeatable.  [default: all]")
@click.option("--points", default=1.0, type=click.FloatRange(0), help="nbgrader: what an exercise is worth.  [1]")
@click.option("--budget", type=click.Choice(BUDGETS), help="nbgrader: a budget that students cannot change.")
def main(lessons: tuple[str, ...], into: Path, only: tuple[str, ...], points: float, budget: str | None) -> None:
    """Write the editions of the lessons NN (all, if none is named).

    \b
    learner      exercises blank, no outputs
    instructor   each exercise followed by its solution and its hints
    nbgrader     a course folder for nbgrader: points, locked tests, solutions that it takes out
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
