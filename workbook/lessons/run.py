"""A run: several lessons side by side into one folder, which a later command can go on with."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import psutil

from helpers.files import write_json
from helpers.processes import lives, whoami
from helpers.runtime import UserError
from workbook.lessons.attempt import Attempt, finished
from workbook.lessons.kernel import cores
from workbook.lessons.lesson import Lesson
from workbook.lessons.parameters import declared

PLAN, OWNER = "run.json", "owner.json"
BYTES_A_LESSON = 2e9


@dataclass
class Run:
    """A folder under `runs/` and the attempts that fill it."""

    folder: Path
    attempts: list[Attempt]
    jobs: int

    @property
    def left(self) -> list[Attempt]:
        """The attempts that have not ended."""
        return [attempt for attempt in self.attempts if attempt.outcome is None]

    @property
    def complete(self) -> bool:
        """Whether every lesson is done."""
        return all(attempt.outcome and attempt.outcome.status == "done" for attempt in self.attempts)

    @property
    def threads(self) -> int:
        """Threads for each lesson, so that all of them together use the cores once."""
        return max(1, cores() // self.jobs)

    def execute(self, watch: Callable[[Run], None], pause: float = 0.5) -> None:
        """Run what is left, calling `watch` every `pause` seconds; on any exception all children are ended.

        Raises:
            UserError: results cannot be written; nothing more is started, what is finished stays.
            KeyboardInterrupt: passed on.
        """
        pages = [attempt.lesson.name for attempt in self.attempts]
        halt = threading.Event()

        def one(attempt: Attempt) -> None:
            if not halt.is_set():
                attempt.run(self.threads, pages)

        write_json(self.folder / OWNER, whoami())
        pool = ThreadPoolExecutor(self.jobs)
        try:
            for together in self._rounds():
                waiting = {pool.submit(one, attempt) for attempt in together}
                while waiting:
                    ended, waiting = wait(waiting, timeout=pause)
                    watch(self)
                    _raise_first(ended)
        finally:
            halt.set()
            for attempt in self.attempts:
                attempt.stop()
            pool.shutdown(cancel_futures=True)
            (self.folder / OWNER).unlink(missing_ok=True)

    def _rounds(self) -> list[list[Attempt]]:
        """What is left: first the lessons that train, then those that look at their `runs`."""
        last = [attempt for attempt in self.left if "runs" in declared(attempt.lesson)]
        return [[attempt for attempt in self.left if attempt not in last], last]


def new_run(runs: Path, lessons: list[Lesson], parameters: dict[str, dict], jobs: int | None) -> Run:
    """A run in a new folder named by the date and time.

    Raises:
        UserError: the folder cannot be written.
    """
    jobs = min(jobs or fitting_jobs(), len(lessons))
    folder = _new_folder(runs)
    plan = {"lessons": [str(lesson.path) for lesson in lessons], "parameters": parameters, "jobs": jobs}
    write_json(folder / PLAN, plan)
    return Run(folder, _attempts(folder, lessons, parameters), jobs)


def resumed_run(runs: Path) -> Run:
    """The latest run, with the lessons that are done already marked so.

    Raises:
        UserError: there is none, it is still at work, or its plan cannot be read.
    """
    plans = sorted(runs.glob(f"*/{PLAN}"))
    if not plans:
        raise UserError("There is no earlier run to resume: start one with `workbook run`.")
    try:
        plan = json.loads(plans[-1].read_text(encoding="utf-8"))
        lessons, parameters, jobs = plan["lessons"], plan["parameters"], plan["jobs"]
    except (ValueError, KeyError, TypeError):
        raise UserError(
            f"The plan of the run {plans[-1].parent.name} is damaged: start anew with `workbook run`."
        ) from None
    folder = plans[-1].parent
    _refuse_at_work(folder)
    run = Run(folder, _attempts(folder, [Lesson(Path(path)) for path in lessons], parameters), jobs)
    for attempt in run.attempts:
        attempt.outcome = finished(attempt.folder)
    return run


def _refuse_at_work(folder: Path) -> None:
    """Two commands in one folder would write over each other."""
    try:
        who = json.loads((folder / OWNER).read_text(encoding="utf-8"))
        at_work = lives(who)
    except (OSError, ValueError, AttributeError):
        return
    if at_work:
        raise UserError(
            f"The run {folder.name} is still at work (process {who['pid']}): let it end, or stop it with Ctrl-C there."
        )


def fitting_jobs() -> int:
    """One lesson for each core, as far as the memory goes."""
    return max(1, min(cores(), int(psutil.virtual_memory().available // BYTES_A_LESSON)))


def _attempts(folder: Path, lessons: list[Lesson], parameters: dict[str, dict]) -> list[Attempt]:
    return [Attempt(lesson, parameters[lesson.name], folder / lesson.name) for lesson in lessons]


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


def _raise_first(ended: set[Future]) -> None:
    for future in ended:
        future.result()
