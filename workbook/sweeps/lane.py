"""One worker's lane: a copy of the starter that does its runs one after the other, each in a copy of its own.

A line of JSON from the worker is a job; back go its process's number, and its status when it ended. Anything more
from the worker while a job runs ends the job. When the worker is gone, everything ends. A run never changes this
process, so that runs cannot touch each other.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import sys
import tempfile
import threading
from pathlib import Path

import psutil

from helpers.redaction import redacted
from workbook.sweeps.kernel import ForkedKernel, be_called, die_with_parent
from workbook.sweeps.scratch import scratch_folder

LOG, LOG_CAP = "log.txt", 1_000_000
END = b"end"


def serve(connection: socket.socket, warm: bool) -> None:
    """In the starter's copy: do what the worker at the other end asks for, then end."""
    try:
        os.setsid()
        be_called("sweep-lane")
        for target in (0, 1):
            os.dup2(connection.fileno(), target)
        connection.close()
        wake = watch_children()
        say(ready=True)
        pending = b""
        while data := heard():
            pending += data
            while b"\n" in pending:
                line, _, pending = pending.partition(b"\n")
                if line != END:  # such an order comes too late when the run ended by itself in that moment
                    run(json.loads(line), warm, wake)
    finally:
        os._exit(0)


def watch_children() -> int:
    """A pipe that becomes readable when a child ends."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    return reading


def say(**event: object) -> None:
    """Tell the worker; when it is gone, the next `heard()` knows."""
    with contextlib.suppress(ConnectionError):
        os.write(1, (json.dumps(event) + "\n").encode())


def heard() -> bytes:
    """What the worker said, as soon as it says something; nothing when it is gone."""
    try:
        return os.read(0, 65536)
    except ConnectionError:
        return b""


def run(job: dict, warm: bool, wake: int) -> None:
    """Start one run, tell of it, and wait for its end or the order to end it."""
    scratch = scratch_folder("sweep-")
    pid = os.fork()
    if pid == 0:
        become_run(job, warm, scratch)
    say(pid=pid)
    while not has_ended(pid):
        ready, _, _ = select.select([0, wake], [], [])
        if wake in ready:
            os.read(wake, 4096)
        if 0 in ready:
            gone = not heard()
            end(pid, job["folder"])
            if gone:
                shutil.rmtree(scratch, ignore_errors=True)
                os._exit(130)
    # Before the process's number is given back: until then nobody else can have it.
    end(pid, job["folder"])
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    shutil.rmtree(scratch, ignore_errors=True)
    say(status=status)


def has_ended(pid: int) -> bool:
    """Whether a child has ended; its number stays its own until it is waited for."""
    if hasattr(os, "waitid"):
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE  # macOS, before Python 3.13


def end(pid: int, folder: str) -> None:
    """Kill a run, all that it started, and whatever of that went into a session of its own."""
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process(pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                child.kill()
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get("WORKBOOK_RUN_DIR") == folder:
                process.kill()


def become_run(job: dict, warm: bool, scratch: str) -> None:
    """In the copy: leave the lane's group and pipes, prepare the kernel, then run."""
    status = 1
    try:
        os.setsid()
        die_with_parent()
        be_called("sweep-run")
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        reading, writing = os.pipe()
        nothing = os.open(os.devnull, os.O_RDONLY)
        for target, source in ((0, nothing), (1, writing), (2, writing)):
            os.dup2(source, target)
        os.close(writing)
        os.environ.update(WORKBOOK_RUN_DIR=job["folder"], TMPDIR=scratch, JUPYTER_RUNTIME_DIR=scratch)
        tempfile.tempdir = None
        fresh_chance()
        forked = ForkedKernel() if warm and job["forked"] else None
        log = threading.Thread(target=keep_log, args=(reading, Path(job["folder"]) / LOG), daemon=True)
        log.start()
        from workbook.sweeps.execution import execute

        status = execute(job, forked)
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(nothing, 1), os.dup2(nothing, 2)
        log.join(timeout=2)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(status)


def fresh_chance() -> None:
    """Give this copy a random state of its own; Python's `random` does that by itself."""
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()


def keep_log(source: int, path: Path) -> None:
    """Write what a run's processes print, redacted line by line, up to a cap."""
    written = 0
    with os.fdopen(source, errors="replace") as lines, contextlib.suppress(OSError), path.open("w") as log:
        while line := lines.readline(100_000):
            if written <= LOG_CAP:
                text = redacted(line) if written + len(line) <= LOG_CAP else "\n[The log was capped here.]\n"
                log.write(text)
                log.flush()
            written += len(line)
