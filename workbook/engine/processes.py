"""Finds the processes of a run by the folder in their environment, and ends them with all their descendants.

Only children of this process are checked.
"""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress
from pathlib import Path

import psutil

RUN_FOLDER = "WORKBOOK_RUN_DIR"
SET_CHILD_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER in linux/prctl.h


def adopt_orphans() -> None:
    """On Linux, make this process the parent of its descendants' orphans, so that `end_run` finds them."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_run(folder: Path, kernel: int = 0) -> None:
    """End every child of this process that belongs to a run in `folder`, with everything below it.

    Args:
        kernel: PID of a child that belongs to the run although its initial environment does not name the folder.
    """
    for child in psutil.Process().children():
        with suppress(psutil.Error, OSError):
            if child.pid == kernel or Path(child.environ().get(RUN_FOLDER, "")).is_relative_to(folder):
                end_tree(child)


def end_tree(process: psutil.Process) -> None:
    """Kill a process and all its descendants."""
    try:
        below = process.children(recursive=True)
    except psutil.Error:
        below = []
    for one in (process, *below):
        with suppress(psutil.Error):
            one.kill()
    psutil.wait_procs([process, *below], timeout=5)
