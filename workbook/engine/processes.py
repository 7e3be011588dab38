"""The processes of a run: found below this process by the folder in their environment, and ended with all they started.

Only this process's own descendants are checked.
"""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress
from pathlib import Path

import psutil

RUN_FOLDER = "WORKBOOK_RUN_DIR"
SET_CHILD_SUBREAPER = 36  # linux/prctl.h


def adopt_orphans() -> None:
    """On Linux, let this process inherit what a dead descendant leaves behind, so that `end_run` finds it."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_run(folder: Path, kernel: int = 0) -> None:
    """End every child of this process that belongs to a run in `folder`, with everything below it.

    Args:
        kernel: the number of one that does, though its environment was another when it began.
    """
    for child in psutil.Process().children():
        with suppress(psutil.Error, OSError):
            if child.pid == kernel or Path(child.environ().get(RUN_FOLDER, "")).is_relative_to(folder):
                end_tree(child)


def end_tree(process: psutil.Process) -> None:
    """End a process and everything below it."""
    try:
        below = process.children(recursive=True)
    except psutil.Error:
        below = []
    for one in (process, *below):
        with suppress(psutil.Error):
            one.kill()
    psutil.wait_procs([process, *below], timeout=5)
