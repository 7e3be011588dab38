"""A worker's steps for one run: read the ledger, execute, judge, write the outcome, and retry after a crash."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from pathlib import Path

from helpers.runtime import UserError
from workbook.engine.execution import execute
from workbook.engine.identity import difference, named_parameters, run_identity, state_of
from workbook.engine.kernel import ForkedKernel
from workbook.engine.ledger import ALIVE, PROGRESS, Outcome, RunLedger, at_work, write_outcome
from workbook.engine.processes import end_run
from workbook.engine.task import Task
from workbook.engine.verdict import is_download, judge
from workbook.lessons import Lesson

TRIES_OF_A_DOWNLOAD = 3
BEAT = 0.5


class Watch:
    """Watches an attempt in a thread: shows that it is alive, ends it at its timeout or when its command is stopped."""

    def __init__(self, folder: Path, task: Task, kernel: int):
        self.folder, self.task, self.kernel = folder, task, kernel
        self.ended_for = ""  # "timeout" or "stopped"
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()
        end_run(self.folder, self.kernel)  # processes that the notebook left running

    def _watch(self) -> None:
        deadline = time.monotonic() + self.task.seconds
        while not self._over.wait(BEAT):
            with suppress(OSError):
                (self.folder / ALIVE).touch()
            if not self.ended_for:
                late = time.monotonic() > deadline
                self.ended_for = "stopped" if self.task.is_over else "timeout" if late else ""
            if self.ended_for:  # repeated, because the kernel may have started only now
                end_run(self.folder, self.kernel)


def run_task(task: Task, forked: ForkedKernel | None = None) -> Outcome:
    """Run a task until it has an outcome; return it. "halt": start no other run; "stopped": its command was stopped.

    Args:
        forked: a waiting process that becomes the kernel of the first attempt.
    """
    try:
        return _run_task(task, [forked] if forked else [])
    except (UserError, OSError) as error:
        return Outcome("halt", error=str(error))
    except Exception as error:
        return Outcome("halt", error=f"A worker cannot run {task.key}: {type(error).__name__}: {error}")


def _run_task(task: Task, forked: list[ForkedKernel]) -> Outcome:
    ledger = RunLedger(Path(task.folder), task.numbered)
    _wait_for_others(ledger, task)
    ledger.set_damaged_aside()
    state = ledger.state()
    if state.status == "done" and state.outcome:
        return state.outcome
    crashes = downloads = 0
    while not task.is_over:
        if changed := _changed(task):
            return Outcome("halt", error=f"{changed} changed since this sweep was planned: start it again.")
        outcome = _attempt(ledger, task, forked.pop() if forked else None)
        crashes += outcome.status == "crashed"
        cut = outcome.status == "failed" and is_download(outcome.error)
        downloads += cut
        crashed_again = outcome.status == "crashed" and crashes <= task.retries
        if not (crashed_again or (cut and downloads < TRIES_OF_A_DOWNLOAD)):
            return outcome
        time.sleep(downloads)
    return Outcome("stopped")


def _changed(task: Task) -> str:
    """What has changed since the sweep was planned, in words; "" if nothing has."""
    if not task.state:
        return ""
    changed = difference(task.state, state_of(Lesson(Path(task.notebook))))
    if not changed and run_identity(task.state, task.parameters) != task.key:
        return f"a file that {' or '.join(named_parameters(task.parameters))} names"
    return changed


def _wait_for_others(ledger: RunLedger, task: Task) -> None:
    """Wait for an attempt of an earlier command that another worker still runs, because its result counts too."""
    while any(at_work(folder) for folder in ledger.attempts()) and not task.is_over:
        time.sleep(1)


def _attempt(ledger: RunLedger, task: Task, forked: ForkedKernel | None) -> Outcome:
    """Run once in a new folder; if the attempt does not count, its folder is renamed."""
    folder = ledger.new_attempt(task.parameters)
    outcome = _outcome(folder, task, forked)
    if outcome.status in ("halt", "stopped"):
        with suppress(OSError):
            if ledger.numbered:
                folder.rename(folder.with_name(f"stopped-{folder.name}"))
        return outcome
    for hint in (ALIVE, PROGRESS):
        (folder / hint).unlink(missing_ok=True)
    return write_outcome(folder, outcome)


def _outcome(folder: Path, task: Task, forked: ForkedKernel | None) -> Outcome:
    began = time.monotonic()
    try:
        with Watch(folder, task, forked.pid if forked else 0) as watch:
            report = execute(task, folder, forked)
    except (UserError, OSError) as error:
        return Outcome("halt", error=str(error))
    if watch.ended_for == "stopped":
        return Outcome("stopped")
    outcome = judge(folder, report)
    if watch.ended_for == "timeout":
        outcome = Outcome("failed", error=f"It took longer than {task.seconds:g} s and was ended.", notes=report.notes)
    outcome.seconds = round(time.monotonic() - began, 3)
    if changed := _changed(task):
        return Outcome("halt", error=f"{changed} changed while a run was at work: that run does not count.")
    return outcome
