"""What `workbook run` does: check everything, run the lessons while holding a lock, and report."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from rich.console import Console

from helpers.record import MODEL_FOLDER
from helpers.runtime import UserError
from workbook.engine.interrupts import INTERRUPTED, interruptible
from workbook.engine.local import LocalExecutor
from workbook.engine.owner import locked
from workbook.engine.screen import live_view, say, shown
from workbook.lessons import find, select
from workbook.lessons.parameters import resolve
from workbook.run.forecast import forecast
from workbook.run.plan import Run, new_run
from workbook.run.progress import Progress
from workbook.run.report import closing_lines, write_index


def prepare(
    runs: Path,
    notebooks: Path,
    names: Sequence[str],
    given: Sequence[tuple[str, str]],
    jobs: int | None,
    keep_model: bool = False,
) -> Run:
    """Create a run of the named lessons after checking all its parameters.

    Raises:
        UserError: a lesson or parameter is invalid, or `keep_model` is set and no lesson can keep its model.
    """
    course = find(notebooks.resolve())
    lessons = select(names, course)
    parameters = resolve(lessons, given)
    if keep_model and not any(lesson.keeps_model for lesson in lessons):
        able = ", ".join(lesson.number for lesson in course if lesson.keeps_model) or "none"
        raise UserError(f"--keep-model: no lesson of this run keeps its model; these lessons do: {able}.")
    return new_run(runs, lessons, parameters, jobs, keep_model)


def execute_run(run: Run) -> int:
    """Run the unfinished lessons with a live view, then print a summary; return the exit status.

    Raises:
        UserError: another command is working on this run.
    """
    with locked(run.folder, run.nonce):
        run.campaign.begin()
        threads = "1 thread" if run.threads == 1 else f"{run.threads} threads"
        left, count = len(run.campaign.left), len(run.lessons)
        say(f"{left} of {count} lessons to run, {run.jobs} side by side, {threads} each.")
        say(forecast(run))
        try:
            _execute(run)
        except KeyboardInterrupt:
            run.campaign.refresh(run.campaign.left)
            done = count - len(run.campaign.left)
            say(f"\nStopped. {done} of {count} lessons are finished, in {shown(run.folder)}.")
            say("Continue with: workbook run --resume")
            return INTERRUPTED
        except UserError as error:
            say(f"\nStopped: {error}")
            say(f"What was finished stays in {shown(run.folder)}. Then continue with: workbook run --resume")
            return 1
        finally:
            run.campaign.stop_file.unlink(missing_ok=True)
        return _report(run)


def _execute(run: Run) -> None:
    progress = Progress(run.campaign)
    with (
        interruptible(),
        closing(LocalExecutor(run.jobs)) as executor,
        live_view(Console(soft_wrap=True), progress.table, progress.lines) as watch,
    ):
        for together in run.rounds:
            run.campaign.execute(executor, watch, together)


def _report(run: Run) -> int:
    page = write_index(run)
    for line in closing_lines(run):
        say(line)
    say(f"\nLook at {shown(page)}")
    if any((run.folder / lesson.name / MODEL_FOLDER).is_dir() for lesson in run.lessons):
        say(f"Take the model away with: workbook export {run.folder.name} --to my-model")
    if run.campaign.left:
        say("Run the failed ones again with: workbook run --resume")
    return 1 if run.campaign.left else 0
