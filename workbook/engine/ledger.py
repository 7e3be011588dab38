"""What happened to every run, as files: one folder per attempt, written by the worker that ran it."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from helpers import files, record
from helpers.redaction import redacted
from helpers.runtime import UserError
from workbook.engine.owner import lives, whoami

OUTCOME, STARTED, ALIVE, PROGRESS = "outcome.json", "started.json", "alive", "progress.json"
SILENT_AFTER = 60.0
STATES = ("queued", "running", "done", "failed", "crashed")


@dataclass
class Outcome:
    """How an attempt ended: "done", "failed" or "crashed"; "stopped" and "halt" (begin no other run) are not kept."""

    status: str
    seconds: float = 0.0
    cell: int | None = None
    error: str = ""
    metrics: dict = field(default_factory=dict)
    trace: str = ""
    notes: list[str] = field(default_factory=list)
    seconds_kernel: float = 0.0
    seconds_cells: float = 0.0
    sha256: str = ""


@dataclass(frozen=True)
class State:
    """Where a run stands: one of `STATES`, its last attempt's folder, and how that ended."""

    status: str
    folder: Path | None = None
    outcome: Outcome | None = None


class RunLedger:
    """The attempts at one run: each in a folder of its own, or only the last one, in the run's folder itself."""

    def __init__(self, folder: Path, numbered: bool = True):
        self.folder, self.numbered = folder, numbered

    def attempts(self) -> list[Path]:
        """The folders of the attempts, oldest first; those set aside are left out."""
        if self.numbered:
            return sorted(self.folder.glob("attempt-*"))
        return [self.folder] if (self.folder / STARTED).is_file() or (self.folder / OUTCOME).is_file() else []

    def new_attempt(self, parameters: dict[str, object]) -> Path:
        """Make the folder of a new attempt, and write who runs it.

        Raises:
            UserError: the disk is full or cannot be written.
        """
        try:
            folder = self._numbered_folder() if self.numbered else self._emptied_folder()
        except OSError as error:
            raise UserError(f"{self.folder} cannot be written ({error.strerror}).") from error
        files.write_json(folder / STARTED, {**whoami(), "began": time.time(), "parameters": redacted(parameters)})
        return folder

    def _numbered_folder(self) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        number = 1 + max((int(path.name[-3:]) for path in self.folder.glob("*attempt-*")), default=0)
        while (folder := self.folder / f"attempt-{number:03}").exists():
            number += 1
        folder.mkdir()
        return folder

    def _emptied_folder(self) -> Path:
        if self.folder.exists():
            shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True)
        return self.folder

    def state(self, beside: Collection[Path] = ()) -> State:
        """The run's state without the attempts `beside`. If any attempt is done, the run is done."""
        last = State("queued")
        for folder in self.attempts():
            if folder in beside:
                continue
            outcome = outcome_of(folder)
            if outcome:
                last = State(outcome.status, folder, outcome)
                if outcome.status == "done":
                    return last
            elif at_work(folder):
                last = State("running", folder)
        return last

    def past_attempts(self) -> set[Path]:
        """The attempts that say nothing about a run that begins again; the run's own folder forgets its attempt.

        An attempt of an earlier command that is still at work is none of these: its outcome counts.
        """
        past = {folder for folder in self.attempts() if not at_work(folder)}
        if self.numbered:
            return past
        for file in [folder / name for folder in past for name in (OUTCOME, STARTED)]:
            file.unlink(missing_ok=True)
        return set()

    def set_damaged_aside(self) -> None:
        """Rename attempts whose outcome says done but whose record is no longer whole."""
        for folder in self.attempts() if self.numbered else []:
            if is_damaged(folder):
                folder.rename(folder.with_name(f"damaged-{folder.name}"))


def outcome_of(folder: Path) -> Outcome | None:
    """How an attempt ended; None while it runs, when it was cut off, or when its record is damaged."""
    try:
        outcome = Outcome(**json.loads((folder / OUTCOME).read_text(encoding="utf-8")))
        if outcome.status == "done":
            if outcome.sha256 and sha256(folder) != outcome.sha256:  # `workbook run` kept no hash once
                return None
            outcome.metrics = record.read(folder / record.FILE)["metrics"]
    except (OSError, ValueError, TypeError, UserError):
        return None
    return outcome


def is_damaged(folder: Path) -> bool:
    """Whether an attempt had an outcome that can no longer be trusted."""
    return (folder / OUTCOME).exists() and outcome_of(folder) is None


def write_outcome(folder: Path, outcome: Outcome) -> Outcome:
    """Write an attempt's outcome, after which it counts.

    Raises:
        UserError: the disk is full or cannot be written.
    """
    if outcome.status == "done":
        outcome.sha256 = sha256(folder)
    kept = asdict(outcome)
    kept.pop("metrics")  # they are in the record, once
    files.write_json(folder / OUTCOME, redacted(kept))
    return outcome


def sha256(folder: Path) -> str:
    """The hash of an attempt's record."""
    return hashlib.sha256((folder / record.FILE).read_bytes()).hexdigest()


def at_work(folder: Path) -> bool:
    """Whether somebody is still at an attempt without outcome."""
    try:
        who = json.loads((folder / STARTED).read_text(encoding="utf-8"))
        beat = folder / ALIVE if (folder / ALIVE).exists() else folder / STARTED
        fresh = time.time() - beat.stat().st_mtime < SILENT_AFTER
        return fresh and lives(who) is not False and not (folder / OUTCOME).exists()
    except (OSError, ValueError, AttributeError):
        return False


def started(folder: Path | None) -> float:
    """When an attempt began, in seconds since 1970; now, where that is not known."""
    if folder:
        with suppress(OSError, ValueError, KeyError):
            return float(json.loads((folder / STARTED).read_text(encoding="utf-8"))["began"])
    return time.time()


def position(folder: Path | None) -> tuple[int, int, float]:
    """The cell at which an attempt works (from 1), how many there are, when that cell began; zeros before the first."""
    if folder:
        with suppress(OSError, ValueError, KeyError):
            found = json.loads((folder / PROGRESS).read_text(encoding="utf-8"))
            return found["cell"], found["cells"], found["began"]
    return 0, 0, 0.0
