"""Runs tasks on this machine, each in a worker process that `multiprocessing` starts for it.

On Linux, workers are forked from a server process that has already imported what they need; elsewhere each worker
imports it again. If a worker dies, only its own run loses an attempt.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import replace
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil

from workbook.engine.kernel import ForkedKernel, can_be_forked
from workbook.engine.ledger import Outcome
from workbook.engine.preload import VARIABLE
from workbook.engine.processes import adopt_orphans, end_run, end_tree
from workbook.engine.task import Task
from workbook.engine.worker import run_task

INLINE = {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}  # figures go into the notebook
METHOD = "forkserver" if sys.platform.startswith("linux") else "spawn"
DEATHS = 3  # worker deaths after which a run is given up
PATIENCE = 15.0  # seconds that workers get to end their runs once the stop file exists


# The settings of this process's only worker server; the server lives as long as the process.
_server: dict[str, str] = {}


class LocalExecutor:
    """Gives tasks to worker processes of this machine, `workers` at a time.

    Args:
        libraries: what the notebooks of all tasks import, as (module, name or ""); loaded once if kernels are forked.
        settings: environment variables that the kernels of all tasks share; libraries read them when they are loaded.
    """

    def __init__(
        self, workers: int, libraries: Sequence[tuple[str, str]] = (), settings: Mapping[str, str] | None = None
    ):
        self.workers, self.warm = workers, False
        self._context: Any = multiprocessing.get_context(METHOD)  # Any, because typeshed's BaseContext has no Process
        self._threads = ThreadPoolExecutor(workers)
        self._starting = threading.Lock()
        self._processes: set[int] = set()
        self._futures: list[Future[Outcome | None]] = []
        self._closing = False
        adopt_orphans()
        if self._context.get_start_method() == "forkserver":
            self.warm = self._start_server(json.dumps(libraries), dict(settings or {}) if can_be_forked() else {})

    def _start_server(self, libraries: str, settings: dict[str, str]) -> bool:
        """Start the server unless it runs; return whether it has loaded libraries under these settings."""
        if not _server:
            before, interrupt = dict(os.environ), signal.getsignal(signal.SIGINT)
            _server.update(settings or os.environ)
            os.environ.update({**settings, **({VARIABLE: libraries, **INLINE} if settings else {})})
            self._context.set_forkserver_preload(["workbook.engine.worker", "workbook.engine.preload"])
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # ignored, because a terminal sends Ctrl-C to the server too
            forkserver.ensure_running()
            signal.signal(signal.SIGINT, interrupt)
            os.environ.clear()
            os.environ.update(before)
        return bool(settings) and settings == _server

    def slots(self) -> int:
        """The number of runs that may be active at a time."""
        return self.workers

    def submit(self, task: Task) -> Future[Outcome | None]:
        """Run a task; the future's result is its outcome, None if its worker died DEATHS times."""
        task = replace(task, warm=self.warm and task.kernel == "python3")
        self._futures.append(self._threads.submit(self._run, task))
        return self._futures[-1]

    def result(self, future: Future[Outcome | None]) -> Outcome | None:
        """The result of a future that is done."""
        return future.result()

    def check(self) -> None:
        """Do nothing: the death of a worker is noticed at once."""

    def close(self) -> None:
        """End all workers: wait up to PATIENCE seconds until they end by themselves, then kill the others."""
        self._closing = True
        wait(self._futures, timeout=PATIENCE)
        for pid in list(self._processes):
            with suppress(psutil.NoSuchProcess):
                end_tree(psutil.Process(pid))
        self._threads.shutdown(cancel_futures=True)

    def _run(self, task: Task) -> Outcome | None:
        for _ in range(DEATHS):
            if self._closing:
                break
            receiver, sender = self._context.Pipe(duplex=False)
            process = self._context.Process(target=_work, args=(sender, task), name=f"run {task.key}")
            with self._starting:
                process.start()
                self._processes.add(process.pid)
            sender.close()
            try:
                return receiver.recv()
            except EOFError:  # the worker died
                process.join()
                end_run(Path(task.folder))  # this process has adopted what the worker left running
            finally:
                receiver.close()
                process.join()
                self._processes.discard(process.pid)
        return None


def _work(sender: Connection, task: Task) -> None:
    """Run the task in the worker process and send its outcome."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is ignored, because the stop file ends a worker
    forked = ForkedKernel() if task.warm else None
    adopt_orphans()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    nothing = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):  # only the parent command may write to the terminal
        os.dup2(nothing, stream)
    sender.send(run_task(task, forked))


def _end_with_parent() -> None:
    """Wait until the parent command has died, then end this process and its kernel."""
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
        for child in psutil.Process().children():
            end_tree(child)
        os._exit(130)
