"""What `workbook run` does: everything checked first, then run, then reported."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rich.console import Console

from helpers.runtime import UserError
from workbook.lessons.lesson import find, select
from workbook.lessons.parameters import resolve
from workbook.lessons.report import closing, index
from workbook.lessons.run import Run, new_run
from workbook.lessons.view import view

INTERRUPTED = 130


def prepare(
    runs: Path, notebooks: Path, names: Sequence[str], given: Sequence[tuple[str, str]], jobs: int | None
) -> Run:
    """A new run of the named lessons, once all of its parameters are found good.

    Raises:
        UserError: when a lesson or a parameter is not as it should be.
    """
    lessons = select(names, find(notebooks.resolve()))
    return new_run(runs, lessons, resolve(lessons, given), jobs)


def carry_out(run: Run) -> int:
    """Run what is left with a live view, then say how it went and where to look."""
    console = Console(soft_wrap=True)
    say = partial(console.print, markup=False, highlight=False)
    threads = "1 thread" if run.threads == 1 else f"{run.threads} threads"
    say(f"{len(run.left)} of {len(run.attempts)} lessons to run, {run.jobs} side by side, {threads} each.")
    try:
        with view(console) as watch:
            run.execute(watch)
    except KeyboardInterrupt:
        done = len(run.attempts) - len(run.left)
        say(f"\nStopped. {done} of {len(run.attempts)} lessons are finished, in {shown(run.folder)}.")
        say("Go on with: workbook run --resume")
        return INTERRUPTED
    except UserError as error:
        say(f"\nStopped: {error}")
        say(f"What was finished stays in {shown(run.folder)}. Then go on with: workbook run --resume")
        return 1
    page = index(run)
    for line in closing(run):
        say(line)
    say(f"\nLook at {shown(page)}")
    if not run.complete:
        say("Run the failed ones again with: workbook run --resume")
    return 0 if run.complete else 1


def shown(path: Path) -> str:
    """A path as short as it can be said from here."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
