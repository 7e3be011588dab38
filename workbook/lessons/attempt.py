"""One attempt at a lesson: a child process, what it tells while it runs, and how it ended."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from helpers import files, record
from helpers.runtime import UserError
from workbook.lessons.kernel import environment
from workbook.lessons.lesson import Lesson

OUTCOME = "outcome.json"


@dataclass
class Outcome:
    """How an attempt ended: "done" or "failed", after how long, and at which cell with which error."""

    status: str
    seconds: float
    cell: int | None = None
    error: str = ""
    metrics: dict = field(default_factory=dict)


@dataclass
class Attempt:
    """A lesson with its parameters and the folder that everything it makes goes to."""

    lesson: Lesson
    parameters: dict[str, object]
    folder: Path
    cell: int = 0
    cells: int = 0
    began: float | None = None
    outcome: Outcome | None = None
    process: subprocess.Popen | None = None
    failure: dict = field(default_factory=dict)
    stopped: bool = False

    def run(self, threads: int, pages: list[str]) -> None:
        """Execute the lesson and write `outcome.json`; an error in the lesson is an outcome, not an exception.

        Raises:
            UserError: the results cannot be written.
        """
        self.began = time.monotonic()
        if self.folder.exists():
            shutil.rmtree(self.folder)
        try:
            self.folder.mkdir(parents=True)
            with (self.folder / "log.txt").open("w", encoding="utf-8") as log:
                self._start(threads, pages, log)
                self._listen()
        except OSError as error:
            raise UserError(f"{self.folder.name} could not be written ({error.strerror}).") from error
        status = self.process.wait()
        if self.stopped:
            return
        self.outcome = self._judge(status)
        files.write_json(self.folder / OUTCOME, asdict(self.outcome))

    def stop(self) -> None:
        """End the child and everything below it, now or as soon as it has started; the attempt has no outcome."""
        self.stopped = True
        if self.process is None or self.process.poll() is not None:
            return
        try:
            below = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            below = []
        for process in [*below, self.process]:
            try:
                process.kill()
            except (psutil.NoSuchProcess, ProcessLookupError):
                continue

    def _start(self, threads: int, pages: list[str], log) -> None:
        job = {
            "notebook": str(self.lesson.path),
            "folder": str(self.folder),
            "parameters": self.parameters,
            "pages": pages,
        }
        settings = environment(threads=threads, run_folder=self.folder, track=self.parameters.get("track", "pocket"))
        # A session of its own (on Windows, where that is ignored, a process group), so that Ctrl-C reaches only the one
        # who started it; the pipe ends it with its starter.
        self.process = subprocess.Popen(
            [sys.executable, "-m", "workbook.lessons.execution", json.dumps(job)],
            env=settings,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
        if self.stopped:
            self.stop()

    def _listen(self) -> None:
        for line in self.process.stdout:
            try:
                event = json.loads(line)
            except ValueError:
                continue
            self.cell, self.cells = event.get("cell", self.cell), event.get("cells", self.cells)
            self.failure = event.get("error", self.failure)

    def _judge(self, status: int) -> Outcome:
        seconds = round(time.monotonic() - self.began, 1)
        if self.failure:
            name, message = self.failure["name"], self.failure["message"]
            text = message if name in ("UserError", "") else f"{name}: {message}"
            return Outcome("failed", seconds, self.failure["cell"], text.strip())
        if status != 0:
            return Outcome("failed", seconds, None, _death(status, self.folder / "log.txt"))
        try:
            result = record.read(self.folder / record.FILE)
        except UserError as error:
            return Outcome("failed", seconds, None, f"Incomplete: {error}")
        return Outcome("done", seconds, metrics=result["metrics"])


def finished(folder: Path) -> Outcome | None:
    """The outcome of an earlier attempt in `folder`, if it was done and its metrics are still whole."""
    try:
        outcome = Outcome(**json.loads((folder / OUTCOME).read_text(encoding="utf-8")))
        outcome.metrics = record.read(folder / record.FILE)["metrics"]
    except (OSError, ValueError, TypeError, UserError):
        return None
    return outcome if outcome.status == "done" else None


def _death(status: int, log: Path) -> str:
    """Why a child ended that could not say so itself."""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.is_file() else []
    if status < 0:
        return f"The lesson's process was killed (signal {-status}); most often the memory was not enough."
    return f"The lesson's process ended with status {status}: {lines[-1] if lines else 'it left no message'}"
