"""`make notebooks`: from the sources in notebooks/source, builds and executes the notebooks that a learner opens.

python -m workbook.notebooks [NN ...] [--check | --prose] [--solutions FOLDER]
"""

from __future__ import annotations

import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbformat import NotebookNode

from helpers.runtime import UserError
from workbook.editions.cells import METADATA, from_source, with_parameters, write_notebook
from workbook.editions.instructor import instructor
from workbook.lessons.kernel import LATE_MESSAGES, cores, environment
from workbook.lessons.lesson import NOTEBOOKS, Lesson, find, select
from workbook.lessons.outputs import joined

WIDGET = "application/vnd.jupyter.widget-view+json"
WIDGET_TEXT = "Something to move appears here when this cell runs in JupyterLab."
CELL_SECONDS = 900


def execute(notebook: NotebookNode, folder: Path, results: Path | None = None) -> NotebookNode:
    """Run all cells in a new kernel, in `folder` and on one thread; return the notebook with cleaned outputs.

    Args:
        results: the folder for the numbers that the lesson records; by default they are discarded.

    Raises:
        UserError: a cell fails, or the kernel dies.
    """
    with tempfile.TemporaryDirectory() as dropped:
        client = NotebookClient(
            notebook,
            kernel_name="python3",
            timeout=CELL_SECONDS,
            iopub_timeout=LATE_MESSAGES,
            record_timing=False,
            store_widget_state=False,
            resources={"metadata": {"path": str(folder)}},
        )
        try:
            client.execute(env=environment(threads=1, run_folder=results or Path(dropped)))
        except CellExecutionError as error:
            failed = (any(one.output_type == "error" for one in cell.get("outputs", [])) for cell in notebook.cells)
            cell = next(number for number, found in enumerate(failed, 1) if found)
            raise UserError(f"cell {cell} of {len(notebook.cells)} fails with {error.ename}: {error.evalue}") from None
        except DeadKernelError:
            raise UserError("the kernel died, most often for lack of memory") from None
    return clean(notebook)


def clean(notebook: NotebookNode) -> NotebookNode:
    """Remove what differs between runs: standard error, widget views, timings, the kernel's version."""
    notebook.metadata = NotebookNode(METADATA)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            kept = [output for output in cell.outputs if output.get("name") != "stderr"]
            cell.outputs = [_clean_output(output) for output in joined(kept)]
    return notebook


def _clean_output(output: NotebookNode) -> NotebookNode:
    if WIDGET in output.get("data", {}):
        output.data = NotebookNode({"text/plain": WIDGET_TEXT})
    return output


def skeleton(notebook: NotebookNode) -> list[tuple]:
    """The parts of a notebook that its source determines: every cell's type, text, tags and identifier."""
    return [(cell.cell_type, cell.source, tuple(cell.metadata.get("tags", [])), cell.id) for cell in notebook.cells]


def stale(lesson: Lesson) -> str:
    """How a lesson's notebook differs from a new build of its source; '' if it does not."""
    if not lesson.path.is_file():
        return "is not built yet"
    built, wanted = nbformat.read(lesson.path, as_version=4), from_source(lesson.source)
    for index, (have, want) in enumerate(zip(skeleton(built), skeleton(wanted), strict=False), 1):
        if have != want:
            return f"differs from its source in cell {index}"
    if len(built.cells) != len(wanted.cells):
        return f"has {len(built.cells)} cells, its source gives {len(wanted.cells)}"
    if any(cell.cell_type == "code" and cell.execution_count is None for cell in built.cells):
        return "has cells that were not executed"
    return ""


def build(
    lesson: Lesson,
    folder: Path | None = None,
    parameters: dict[str, object] | None = None,
    results: Path | None = None,
) -> str:
    """Build one lesson's notebook or, in `folder`, its edition with solutions; return the error message, or ''.

    Args:
        parameters: values that replace the lesson's own, injected as papermill does.
        results: the folder for the numbers that the lesson records; by default they are discarded.
    """
    target = (folder or lesson.path.parent) / lesson.path.name
    try:
        notebook = instructor(lesson.source) if folder else from_source(lesson.source)
        if parameters:
            notebook = with_parameters(notebook, parameters)
        write_notebook(target, execute(notebook, lesson.path.parent, results))
    except UserError as error:
        return str(error)
    return ""


def reword(lesson: Lesson) -> str:
    """Update the prose of a built notebook from its source and keep the outputs; return the error message, or ''."""
    try:
        built, wanted = nbformat.read(lesson.path, as_version=4), from_source(lesson.source)
    except FileNotFoundError:
        return "is not built yet: leave out --prose"
    old, new = ([cell for cell in notebook.cells if cell.cell_type == "code"] for notebook in (built, wanted))
    if [cell.source for cell in old] != [cell.source for cell in new]:
        return "has code that changed, so its outputs have to be made anew: leave out --prose"
    for have, want in zip(old, new, strict=True):
        want.outputs, want.execution_count = have.outputs, have.execution_count
    write_notebook(lesson.path, wanted)
    return ""


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("lessons", nargs=-1, metavar="[NN]...")
@click.option("--check", is_flag=True, help="Only report whether each notebook matches its source.")
@click.option("--prose", is_flag=True, help="Update only the prose: keep the outputs, execute nothing.")
@click.option(
    "--solutions",
    type=click.Path(path_type=Path),
    help="Execute the instructor's edition instead of the lessons, and write it to this folder.",
)
@click.option(
    "--jobs", default=None, type=click.IntRange(1, 64), help="Number of parallel notebooks.  [default: cores]"
)
def main(lessons: tuple[str, ...], check: bool, prose: bool, solutions: Path | None, jobs: int | None) -> None:
    """Build the notebooks of the lessons NN (all of them by default) from notebooks/source."""
    try:
        chosen = select(lessons, find(NOTEBOOKS))
        if check or prose:
            problems = [(stale if check else reword)(lesson) for lesson in chosen]
        else:
            with ThreadPoolExecutor(jobs or cores()) as pool:
                problems = list(pool.map(lambda lesson: build(lesson, solutions), chosen))
    except UserError as error:
        raise click.ClickException(str(error)) from None
    for lesson, problem in zip(chosen, problems, strict=True):
        click.echo(f"{lesson.name}: {problem or ('matches its source' if check else 'built')}")
    sys.exit(1 if any(problems) else 0)


if __name__ == "__main__":
    main()
