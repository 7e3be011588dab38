"""A run: several lessons that run in parallel and write to one folder; a later command can resume it."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path

import psutil

from helpers.files import write_json
from helpers.runtime import UserError
from workbook.engine.campaign import Campaign
from workbook.engine.task import Task
from workbook.lessons import Lesson
from workbook.lessons.kernel import cores
from workbook.lessons.parameters import declared

FILE = "run.json"
BYTES_A_LESSON = 2e9


@dataclass(frozen=True)
class Run:
    """A folder under `runs/`, the lessons that fill it, each with its parameters, and how many run in parallel.

    keep_model: whether lessons keep the model that they trained.
    """

    folder: Path
    lessons: list[Lesson]
    parameters: dict[str, dict[str, object]]
    jobs: int
    keep_model: bool = False

    @property
    def threads(self) -> int:
        """Threads per lesson, so that the parallel lessons together use each core once."""
        return max(1, cores() // self.jobs)

    @cached_property
    def nonce(self) -> str:
        """A random name that distinguishes this command's stop file from those of other commands."""
        return secrets.token_hex(4)

    @cached_property
    def campaign(self) -> Campaign:
        """The lessons as tasks of the engine, keyed by the lessons' names."""
        stop = self.folder / f"stop-{self.nonce}"
        pages = [lesson.name for lesson in self.lessons]
        tasks = {
            lesson.name: Task(
                lesson.name,
                str(self.folder / lesson.name),
                str(lesson.path),
                self.parameters[lesson.name],
                str(stop),
                self.threads,
                numbered=False,
                pages=pages,
                keep_model=self.keep_model,
            )
            for lesson in self.lessons
        }
        return Campaign(tasks, stop)

    @property
    def rounds(self) -> list[list[str]]:
        """The unfinished lessons in two rounds: those that train, then those that read results (parameter `runs`)."""
        left = self.campaign.left
        last = [lesson.name for lesson in self.lessons if lesson.name in left and "runs" in declared(lesson)]
        return [[name for name in left if name not in last], last]


def new_run(
    runs: Path, lessons: list[Lesson], parameters: dict[str, dict], jobs: int | None, keep_model: bool = False
) -> Run:
    """Create a run in a new folder, named by date and time.

    Raises:
        UserError: the folder cannot be written.
    """
    run = Run(_new_folder(runs), lessons, parameters, min(jobs or fitting_jobs(), len(lessons)), keep_model)
    plan = {"lessons": [str(lesson.path) for lesson in lessons], "parameters": parameters, "jobs": run.jobs}
    write_json(run.folder / FILE, plan | {"keep_model": keep_model})
    return run


def resumed_run(runs: Path) -> Run:
    """The latest run, read from its plan.

    Raises:
        UserError: there is none, or its plan cannot be read.
    """
    plans = sorted(runs.glob(f"*/{FILE}"))
    if not plans:
        raise UserError("There is no earlier run to resume: start one with `workbook run`.")
    folder = plans[-1].parent
    try:
        plan = json.loads(plans[-1].read_text(encoding="utf-8"))
        lessons, parameters, jobs = [Lesson(Path(path)) for path in plan["lessons"]], plan["parameters"], plan["jobs"]
        of_lessons = {lesson.name: parameters[lesson.name] for lesson in lessons}
        return Run(folder, lessons, of_lessons, int(jobs), bool(plan.get("keep_model", False)))
    except (ValueError, KeyError, TypeError):
        raise UserError(f"The plan of the run {folder.name} is damaged: start a new one with `workbook run`.") from None


def fitting_jobs() -> int:
    """The number of lessons to run in parallel: one per core, as far as the free memory allows."""
    return max(1, min(cores(), int(psutil.virtual_memory().available // BYTES_A_LESSON)))


def _new_folder(runs: Path) -> Path:
    stamp = datetime.now().strftime("%Y-%m-%d_%H%M%S")
    for suffix in ["", *(f"-{count}" for count in range(2, 100))]:
        try:
            (runs / (stamp + suffix)).mkdir(parents=True)
            return runs / (stamp + suffix)
        except FileExistsError:
            continue
        except OSError as error:
            raise UserError(f"{runs.name}/ cannot be written ({error.strerror}).") from error
    raise UserError("More than ninety runs were started within one second.")
