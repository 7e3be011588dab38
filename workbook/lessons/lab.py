"""JupyterLab for the lessons: opened at the first one, with this environment's kernel, asking for no news."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from workbook.lessons.kernel import cores, environment, with_own_kernels
from workbook.lessons.lesson import find

CONFIG = Path(__file__).resolve().parent  # holds labconfig/, which Jupyter reads below each of its config folders


def command(root: Path, options: Sequence[str] = ()) -> list[str]:
    """The command that opens JupyterLab in `root`, at its first lesson; `options` go to JupyterLab."""
    lessons = find(root / "notebooks")
    there = bool(lessons) and lessons[0].path.is_file()
    # As the address, not as a file to open: so it is in the line to click on that --no-browser prints, too.
    first = [f"--LabApp.default_url=/lab/tree/notebooks/{lessons[0].path.name}"] if there else []
    return [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={root}", *first, *options]


def settings() -> dict[str, str]:
    """The environment of a JupyterLab whose kernels are this environment's, whatever else is registered."""
    # Lab is for both tracks, and for progress bars: each lesson decides on its own whether it stays offline.
    ready = {**environment(threads=cores(), track="hub"), **os.environ}
    ready.pop("TQDM_DISABLE", None)
    ready["JUPYTER_PATH"] = with_own_kernels(os.environ.get("JUPYTER_PATH", ""))
    # Jupyter asks at its first start whether it may fetch news: nothing here needs a network, so it does not ask.
    ready["JUPYTER_CONFIG_PATH"] = os.pathsep.join(filter(None, [os.environ.get("JUPYTER_CONFIG_PATH"), str(CONFIG)]))
    return ready


def open_lab(root: Path, options: Sequence[str] = ()) -> int:
    """Open JupyterLab in this process's place; where that cannot be, wait for it and return its status."""
    os.chdir(root)
    if os.name == "nt":  # there, exec would give the terminal back at once, with JupyterLab still writing to it
        return subprocess.run(command(root, options), env=settings()).returncode
    os.execve(sys.executable, command(root, options), settings())
    return 1  # never reached
