"""Records every run in files: one folder per attempt, written by the worker that ran it."""

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
    """How an attempt ended: "done", "failed" or "crashed"; "stopped" and "halt" (start no other run) are not saved."""

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
    """The state of a run: one of `STATES`, the folder of its last attempt, and that attempt's outcome."""

    status: str
    folder: Path | None = None
    outcome: Outcome | None = None


class RunLedger:
    """The attempts at one run: each in its own numbered folder, or only the last one, in the run's folder itself."""

    def __init__(self, folder: Path, numbered: bool = True):
        self.folder, self.numbered = folder, numbered

    def attempts(self) -> list[Path]:
        """The folders of the attempts, oldest first; those set aside are left out."""
        if self.numbered:
            return sorted(self.folder.glob("attempt-*"))
        return [self.folder] if (self.folder / STARTED).is_file() or (self.folder / OUTCOME).is_file() else []

    def new_attempt(self, parameters: dict[str, object]) -> Path:
        """Create the folder of a new attempt, and record which process runs it.

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
        """The run's state, ignoring the attempts in `beside`. If any other attempt is done, the run is done."""
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
        """The earlier attempts to ignore when a run starts again; an attempt in the run's own folder is reset instead.

        An attempt of an earlier command that still runs is not among them, because its outcome counts.
        """
        past = {folder for folder in self.attempts() if not at_work(folder)}
        if self.numbered:
            return past
        for file in [folder / name for folder in past for name in (OUTCOME, STARTED)]:
            file.unlink(missing_ok=True)
        return set()

    def set_damaged_aside(self) -> None:
        """Rename the folders of damaged attempts, so that they no longer count."""
        for folder in self.attempts() if self.numbered else []:
            if is_damaged(folder):
                folder.rename(folder.with_name(f"damaged-{folder.name}"))


def outcome_of(folder: Path) -> Outcome | None:
    """How an attempt ended; None while it runs, when it was cut off, or when its record is damaged."""
    try:
        outcome = Outcome(**json.loads((folder / OUTCOME).read_text(encoding="utf-8")))
        if outcome.status == "done":
            if outcome.sha256 and sha256(folder) != outcome.sha256:  # older versions of `workbook run` saved no hash
                return None
            outcome.metrics = record.read(folder / record.FILE)["metrics"]
    except (OSError, ValueError, TypeError, UserError):
        return None
    return outcome


def is_damaged(folder: Path) -> bool:
    """Whether an attempt had an outcome that can no longer be trusted."""
    return (folder / OUTCOME).exists() and outcome_of(folder) is None


def write_outcome(folder: Path, outcome: Outcome) -> Outcome:
    """Write an attempt's outcome; from then on the attempt counts.

    Raises:
        UserError: the disk is full or cannot be written.
    """
    if outcome.status == "done":
        outcome.sha256 = sha256(folder)
    kept = asdict(outcome)
    kept.pop("metrics")  # the record already contains them
    files.write_json(folder / OUTCOME, redacted(kept))
    return outcome


def sha256(folder: Path) -> str:
    """The hash of an attempt's record."""
    return hashlib.sha256((folder / record.FILE).read_bytes()).hexdigest()


def at_work(folder: Path) -> bool:
    """Whether a live process is still working on an attempt that has no outcome yet."""
    try:
        who = json.loads((folder / STARTED).read_text(encoding="utf-8"))
        beat = folder / ALIVE if (folder / ALIVE).exists() else folder / STARTED
        fresh = time.time() - beat.stat().st_mtime < SILENT_AFTER
        return fresh and lives(who) is not False and not (folder / OUTCOME).exists()
    except (OSError, ValueError, AttributeError):
        return False


def started(folder: Path | None) -> float:
    """When an attempt began, in seconds since 1970; the current time if that is unknown."""
    if folder:
        with suppress(OSError, ValueError, KeyError):
            return float(json.loads((folder / STARTED).read_text(encoding="utf-8"))["began"])
    return time.time()


def position(folder: Path | None) -> tuple[int, int, float]:
    """An attempt's current cell (from 1), its number of cells and the cell's start time; zeros before it."""
    if folder:
        with suppress(OSError, ValueError, KeyError):
            found = json.loads((folder / PROGRESS).read_text(encoding="utf-8"))
            return found["cell"], found["cells"], found["began"]
    return 0, 0, 0.0
