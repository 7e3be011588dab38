"""Executes an attempt with papermill in a worker process; caps its outputs and redacts secrets before writing."""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import nbformat
from nbclient.exceptions import DeadKernelError
from papermill import execute_notebook
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, papermill_engines
from papermill.exceptions import PapermillExecutionError

from helpers.files import write_text
from helpers.redaction import redacted
from helpers.runtime import UserError
from workbook.engine.kernel import ForkedKernel, manager
from workbook.engine.ledger import PROGRESS
from workbook.engine.task import Task
from workbook.lessons.kernel import LATE_MESSAGES, environment, with_own_kernels
from workbook.lessons.outputs import joined
from workbook.lessons.pages import write_page

LOG, LOG_CAP = "log.txt", 1_000_000
UNFINISHED = "unfinished.ipynb"
CAP = 4_000_000
CAPPED = f"The notebook printed more than {CAP / 1e6:.0f} MB: the rest was left out."
ERROR_LINES = 40
SAVE_EVERY = 10.0
START_TIMEOUT = 120


@dataclass
class Report:
    """papermill's result of an attempt: the error of a cell or another failure, and the seconds spent."""

    cell: int | None = None
    error_name: str = ""
    error: str = ""
    trace: str = ""
    died: bool = False  # the kernel died, so no cell raised an error
    notes: list[str] = field(default_factory=list)
    seconds_kernel: float = 0.0
    seconds_cells: float = 0.0


class CappedClient(PapermillNotebookClient):
    """A notebook client that keeps a bounded amount of output."""

    kept = 0

    def output(self, outs, msg, display_id, cell_index):
        """Keep outputs up to the cap, then add one note and drop the rest; errors are always kept."""
        content = msg["content"]
        size = len(content.get("text", "")) + sum(len(str(value)) for value in content.get("data", {}).values())
        if self.kept + size <= CAP or msg["msg_type"] == "error":
            self.kept += size
            return super().output(outs, msg, display_id, cell_index)
        if self.kept <= CAP:
            text = content.get("text", "")[: CAP - self.kept]
            self.kept = CAP + 1
            outs.append(nbformat.v4.new_output("stream", name=content.get("name", "stdout"), text=text))
            outs.append(nbformat.v4.new_output("stream", name="stderr", text=f"\n{CAPPED}\n"))
        return None


class ExecutedNotebook:
    """The notebook of an attempt: saved regularly while it runs, and at the end together with its page."""

    def __init__(self, folder: Path, name: str):
        self.folder, self.name, self.saved = folder, name, 0.0
        self.content: nbformat.NotebookNode | None = None
        self.capped = False

    def progress(self, cell: int, cells: int) -> None:
        """Write the current cell to a file for progress displays; the file may be lost, so it is not flushed."""
        hint = {"cell": cell + 1, "cells": cells, "began": time.time()}
        (self.folder / PROGRESS).write_text(json.dumps(hint), encoding="utf-8")

    def save(self) -> None:
        """Write the notebook as it is now, unless it was written less than SAVE_EVERY seconds ago."""
        if time.monotonic() - self.saved > SAVE_EVERY:
            self.saved = time.monotonic()
            self._write()

    def finish(self, task: Task) -> None:
        """Write the notebook under its final name, and its page next to it."""
        if self.content is not None:
            path = self._write().replace(self.folder / self.name)
            write_page(path, figures=Path(task.notebook).parent, lessons=task.pages, home=task.home)

    @property
    def seconds(self) -> float:
        """The total seconds of the cells, as papermill measured them."""
        cells = self.content.cells if self.content else []
        return sum(cell.metadata.get("papermill", {}).get("duration") or 0.0 for cell in cells)

    def _write(self) -> Path:
        # The outputs are redacted before they are split into lines, because a split secret would not be found.
        plain = json.loads(json.dumps(self.content))
        for cell in plain["cells"]:
            if "outputs" in cell:
                cell["outputs"] = joined(nbformat.from_dict(cell["outputs"]))
        return write_text(self.folder / UNFINISHED, nbformat.writes(nbformat.from_dict(redacted(plain))) + "\n")


class WorkbookEngine(NBClientEngine):
    """A papermill engine that uses an attempt's notebook and kernel."""

    @classmethod
    def execute_managed_notebook(cls, nb_man, kernel_name, *, executed, kernel, make_manager, **_):
        """Execute the notebook; `kernel` contains the arguments for the kernel's process."""
        started, total = nb_man.cell_start, len(nb_man.nb.cells)

        def cell_start(cell, cell_index=None, **more):
            executed.progress(cell_index, total)
            started(cell, cell_index=cell_index, **more)

        nb_man.cell_start = cell_start
        nb_man.save = lambda **_: executed.save()
        executed.content = nb_man.nb
        options = {
            "timeout": None,
            "startup_timeout": START_TIMEOUT,
            "iopub_timeout": LATE_MESSAGES,
            "shutdown_kernel": "immediate",
        }
        client = CappedClient(nb_man, km=make_manager(), kernel_name=kernel_name, **options)
        client.owns_km = True  # the client starts the kernel and shuts it down
        try:
            return client.execute(**kernel)
        finally:
            executed.capped = client.kept > CAP


papermill_engines.register("workbook", WorkbookEngine)


def execute(task: Task, folder: Path, forked: ForkedKernel | None = None) -> Report:
    """Run the task's notebook; write the executed notebook, its page and a log to the attempt's folder.

    Args:
        forked: a waiting process that becomes the kernel; None starts a new process.

    Raises:
        UserError: the executed notebook cannot be written.
    """
    executed = ExecutedNotebook(folder, Path(task.notebook).name)
    began = time.monotonic()
    with _log(folder / LOG) as log, _socket_folder() as sockets:
        kernel = partial(manager, task.kernel, f"{sockets}/kernel.json", forked)
        report = _execute(task, folder, executed, log, kernel)
    report.seconds_kernel, report.seconds_cells = time.monotonic() - began, executed.seconds
    report.notes = [CAPPED] if executed.capped else []
    executed.finish(task)
    return report


def _execute(task: Task, folder: Path, executed: ExecutedNotebook, log: int, make_manager) -> Report:
    notebook = Path(task.notebook)
    track = str(task.parameters.get("track", "pocket"))
    settings = environment(threads=task.threads, run_folder=folder, track=track, keep_model=task.keep_model)
    # This process looks for kernels in these folders.
    os.environ["JUPYTER_PATH"] = with_own_kernels(os.environ.get("JUPYTER_PATH", ""))
    try:
        execute_notebook(
            str(notebook).replace("{", "{{").replace("}", "}}"),
            None,
            parameters=task.parameters,
            engine_name="workbook",
            kernel_name=task.kernel,
            language="python",
            progress_bar=False,
            executed=executed,
            make_manager=make_manager,
            kernel={"env": settings, "cwd": str(notebook.parent), "stdout": log, "stderr": log},
        )
    except UserError:  # saving the notebook failed during execution
        raise
    except PapermillExecutionError as failure:
        trace = "\n".join("\n".join(failure.traceback).splitlines()[-ERROR_LINES:])
        return Report(failure.exec_count, failure.ename, failure.evalue, trace)
    except Exception as failure:
        os.write(log, traceback.format_exc().encode())
        return Report(error=_sentence(failure), died=type(failure) in (DeadKernelError, RuntimeError))
    return Report()


def _sentence(failure: Exception) -> str:
    """The message for a failure outside the notebook's own code."""
    if isinstance(failure, DeadKernelError):
        return "The kernel died in the middle of a cell; most often the memory was not enough."
    if type(failure).__name__ == "NoSuchKernel":
        return "Jupyter knows no Python kernel here: `make doctor` says how to fix it."
    return f"{type(failure).__name__}: {(str(failure).strip().splitlines() or ['no message'])[0]}"


@contextmanager
def _socket_folder() -> Iterator[str]:
    """A private folder for the kernel's sockets. They replace ports, which other programs could reach or take."""
    short = len(os.fsencode(tempfile.gettempdir())) < 70  # a socket's path is limited to about 100 bytes
    where = None if short else "/tmp"
    with tempfile.TemporaryDirectory(prefix="workbook-", dir=where, ignore_cleanup_errors=True) as folder:
        yield folder


@contextmanager
def _log(path: Path) -> Iterator[int]:
    """A file descriptor for a run's output, which is redacted line by line and written to `path`, up to a cap."""
    reading, writing = os.pipe()
    thread = threading.Thread(target=_keep_log, args=(reading, path), daemon=True)
    thread.start()
    try:
        yield writing
    finally:
        os.close(writing)
        thread.join(timeout=2)  # a process that the notebook left running may keep the pipe open


def _keep_log(source: int, path: Path) -> None:
    written = 0
    with os.fdopen(source, errors="replace") as lines, suppress(OSError), path.open("w", encoding="utf-8") as log:
        while line := lines.readline(100_000):
            if written <= LOG_CAP:
                text = redacted(line) if written + len(line) <= LOG_CAP else "\n[The log was capped here.]\n"
                log.write(text)
                log.flush()
            written += len(line)
