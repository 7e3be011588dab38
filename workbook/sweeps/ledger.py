"""What happened to every run, as files: one folder per attempt, written by whoever ran it."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from helpers import files, record
from helpers.processes import lives, whoami
from helpers.redaction import redacted
from helpers.runtime import UserError
from workbook.lessons.attempt import OUTCOME, Outcome

STARTED = "started.json"
ALIVE, REPORT, PROGRESS = "alive", "report.json", "progress.json"
CANNOT_WRITE = 3  # the exit status of a run that could not write down what it did
SILENT_AFTER = 60.0
STATES = ("queued", "running", "done", "failed", "crashed")


@dataclass
class Ending(Outcome):
    """How an attempt of a sweep ended: "done", "failed" or "crashed"; "stopped" and "halt" leave no outcome."""

    trace: str = ""
    notes: list[str] = field(default_factory=list)
    seconds_kernel: float = 0.0
    seconds_cells: float = 0.0
    sha256: str = ""


@dataclass(frozen=True)
class State:
    """Where a run stands: one of `STATES`, its last attempt's folder, how that ended, and how many there were."""

    status: str
    folder: Path | None = None
    ending: Ending | None = None
    attempts: int = 0


class Ledger:
    """The folder of one sweep."""

    def __init__(self, folder: Path):
        self.folder = folder

    def attempts(self, run: str) -> list[Path]:
        """The folders of a run's attempts, oldest first; those set aside are left out."""
        return sorted((self.folder / "runs" / run).glob("attempt-*"))

    def new_attempt(self, run: str, parameters: dict[str, object]) -> Path:
        """Make the folder of a new attempt, and write who runs it.

        Raises:
            UserError: the disk is full or cannot be written.
        """
        runs = self.folder / "runs" / run
        try:
            runs.mkdir(parents=True, exist_ok=True)
            number = 1 + max((int(path.name[-3:]) for path in runs.glob("*attempt-*")), default=0)
            while (folder := runs / f"attempt-{number:03}").exists():
                number += 1
            folder.mkdir()
        except OSError as error:
            raise UserError(f"The sweep's folder cannot be written ({error.strerror}).") from error
        files.write_json(folder / STARTED, {**whoami(), "began": time.time(), "parameters": redacted(parameters)})
        return folder

    def state(self, run: str, beside: set[Path] = frozenset()) -> State:
        """Where a run stands, attempts `beside` not regarded; any that was done counts, however others ended."""
        attempts = [folder for folder in self.attempts(run) if folder not in beside]
        last = State("queued", attempts=len(attempts))
        for folder in attempts:
            ending = ending_of(folder)
            if ending:
                last = State(ending.status, folder, ending, len(attempts))
                if ending.status == "done":
                    return last
            elif at_work(folder):
                last = State("running", folder, None, len(attempts))
        return last

    def set_damaged_aside(self, run: str) -> int:
        """Rename attempts whose outcome says done but whose record is no longer whole; return how many."""
        damaged = [folder for folder in self.attempts(run) if is_damaged(folder)]
        for folder in damaged:
            folder.rename(folder.with_name(f"damaged-{folder.name}"))
        return len(damaged)


def ending_of(folder: Path) -> Ending | None:
    """How an attempt ended; None while it runs, when it was cut off, or when its record is damaged."""
    try:
        ending = Ending(**json.loads((folder / OUTCOME).read_text()))
        if ending.status == "done":
            if sha256(folder) != ending.sha256:
                return None
            ending.metrics = record.read(folder / record.FILE)["metrics"]
    except (OSError, ValueError, TypeError, UserError):
        return None
    return ending


def is_damaged(folder: Path) -> bool:
    """Whether an attempt had an outcome that can no longer be trusted."""
    return (folder / OUTCOME).exists() and ending_of(folder) is None


def write_ending(folder: Path, ending: Ending) -> Ending:
    """Write an attempt's outcome, after which it counts.

    Raises:
        UserError: the disk is full or cannot be written.
    """
    if ending.status == "done":
        ending.sha256 = sha256(folder)
    kept = asdict(ending)
    kept.pop("metrics")  # they are in the record, once
    files.write_json(folder / OUTCOME, redacted(kept))
    return ending


def sha256(folder: Path) -> str:
    """The hash of an attempt's record."""
    return hashlib.sha256((folder / record.FILE).read_bytes()).hexdigest()


def at_work(folder: Path) -> bool:
    """Whether somebody is still at an attempt without outcome."""
    try:
        who = json.loads((folder / STARTED).read_text())
        beat = folder / ALIVE if (folder / ALIVE).exists() else folder / STARTED
        return lives(who) is not False and time.time() - beat.stat().st_mtime < SILENT_AFTER
    except (OSError, ValueError, AttributeError):
        return False
