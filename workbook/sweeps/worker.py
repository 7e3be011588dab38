"""What a Dask worker does for one run: look into the ledger, run, judge, write it down, and retry a crash."""

from __future__ import annotations

import contextlib
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from helpers.runtime import UserError
from workbook.lessons import Lesson
from workbook.lessons.execution import UNFINISHED
from workbook.lessons.kernel import cores
from workbook.sweeps.identity import FILES, difference, run_identity, state_of
from workbook.sweeps.ledger import ALIVE, Ending, Ledger, at_work, ending_of, write_ending
from workbook.sweeps.runner import runner
from workbook.sweeps.starting import setup_of
from workbook.sweeps.trouble import is_download
from workbook.sweeps.verdict import judge

TRIES_OF_A_DOWNLOAD = 3


@dataclass(frozen=True)
class Task:
    """One run as it is sent to a worker; plain values only."""

    run: str
    folder: str
    notebook: str
    kernel: str
    parameters: dict[str, object]
    state: dict[str, str]
    seconds: float
    retries: int
    stop: str
    threads: int = 0
    slots: dict[str, int] = field(default_factory=dict)
    starters: str = ""  # where starters of this machine listen

    @property
    def is_over(self) -> bool:
        """Whether the command was ended, or some run found a reason to begin no other."""
        return self.stop in _halted or Path(self.stop).exists() or Path(f"{self.stop}-halt").exists()


# A full disk may not even take an empty file; then at least this worker knows.
_halted: set[str] = set()


def carry_out(task: Task) -> dict:
    """Run until the ledger has an outcome; returns it. "halt" means: run nothing more; "stopped": it was asked for."""
    try:
        ending = _carry_out(task)
    except (UserError, OSError) as error:
        ending = Ending("halt", 0.0, error=str(error))
    if ending.status == "halt":
        # At once: until the command hears of it, the next run would have begun.
        _halted.add(task.stop)
        with contextlib.suppress(OSError):
            Path(f"{task.stop}-halt").touch()
    return asdict(ending)


def _carry_out(task: Task) -> Ending:
    ledger = Ledger(Path(task.folder))
    _wait_for_others(ledger, task)
    ledger.set_damaged_aside(task.run)
    state = ledger.state(task.run)
    if state.status == "done":
        return state.ending
    crashes = downloads = 0
    while not task.is_over:
        changed = _changed(task)
        if changed:
            return Ending("halt", 0.0, error=f"{changed} changed since this sweep was planned: start it again.")
        ending = _attempt(ledger, task)
        crashes += ending.status == "crashed"
        cut = ending.status == "failed" and is_download(ending.error)
        downloads += cut
        crashed_again = ending.status == "crashed" and crashes <= task.retries
        if not (crashed_again or (cut and downloads < TRIES_OF_A_DOWNLOAD)):
            return ending
        time.sleep(downloads)
    return Ending("stopped", 0.0)


def _changed(task: Task) -> str:
    """What is not as it was when the sweep was planned, in words; "" when all is."""
    changed = difference(task.state, state_of(Lesson(Path(task.notebook))))
    if not changed and run_identity(task.state, task.parameters) != task.run:
        return f"a file that {' or '.join(name for name in FILES if task.parameters.get(name))} names"
    return changed


def _wait_for_others(ledger: Ledger, task: Task) -> None:
    """An attempt of an earlier command may still be at work on another worker: its result counts too."""
    while any(ending_of(folder) is None and at_work(folder) for folder in ledger.attempts(task.run)):
        if task.is_over:
            return
        time.sleep(1)


def _attempt(ledger: Ledger, task: Task) -> Ending:
    """Run once, in a new folder; one that does not count gives its name up."""
    folder = ledger.new_attempt(task.run, task.parameters)
    ending = _run(folder, task)
    if ending.status in ("halt", "stopped"):
        with contextlib.suppress(OSError):
            folder.rename(folder.with_name(f"stopped-{folder.name}"))
        return ending
    return write_ending(folder, ending)


def _run(folder: Path, task: Task) -> Ending:
    began = time.monotonic()

    def stopped() -> bool:
        with contextlib.suppress(OSError):
            (folder / ALIVE).touch()
        return task.is_over

    with runner(_setup(task), task.starters) as one:
        how, status = one.run(_job(task, folder), task.seconds, stopped)
    if how == "stopped":
        return Ending("stopped", 0.0)
    _keep_unfinished(folder, Path(task.notebook).name)
    ending = judge(folder, how, status, task.seconds)
    ending.seconds = round(time.monotonic() - began, 3)
    changed = _changed(task)
    if changed:
        return Ending("halt", 0.0, error=f"{changed} changed while a run was at work: that run does not count.")
    return ending


def _setup(task: Task) -> dict:
    threads = task.threads or _threads(task.slots)
    return setup_of(Lesson(Path(task.notebook)), task.parameters, threads)


def _threads(slots: dict[str, int]) -> int:
    """The cores of this host, shared out over its slots."""
    from distributed import get_worker

    host = get_worker().address.rpartition("/")[2].rpartition(":")[0]
    return max(1, cores() // slots.get(host, 1))


def _job(task: Task, folder: Path) -> dict:
    return {
        "folder": str(folder),
        "notebook": task.notebook,
        "parameters": task.parameters,
        "kernel": task.kernel,
        "forked": task.kernel == "python3",
    }


def _keep_unfinished(folder: Path, name: str) -> None:
    if (folder / UNFINISHED).is_file():
        (folder / UNFINISHED).replace(folder / name)
