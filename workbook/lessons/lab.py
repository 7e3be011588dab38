"""Opens JupyterLab at the first lesson, with this environment's kernel and without the question about news."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from workbook.lessons.kernel import cores, environment, with_own_kernels
from workbook.lessons.lesson import find

CONFIG = Path(__file__).resolve().parent  # contains labconfig/, which JupyterLab reads in a configuration folder


def command(root: Path, options: Sequence[str] = ()) -> list[str]:
    """The command that opens JupyterLab in `root`, at its first lesson; `options` go to JupyterLab."""
    lessons = find(root / "notebooks")
    there = bool(lessons) and lessons[0].path.is_file()
    # The lesson is the default URL, not a file to open, so that the link that --no-browser prints leads to it too.
    first = [f"--LabApp.default_url=/lab/tree/notebooks/{lessons[0].path.name}"] if there else []
    return [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={root}", *first, *options]


def settings() -> dict[str, str]:
    """The environment variables for JupyterLab; they make it find this environment's kernels before any others."""
    # track="hub" leaves JupyterLab online, because each lesson decides by itself whether to stay offline. Progress bars
    # are shown.
    ready = {**environment(threads=cores(), track="hub"), **os.environ}
    ready.pop("TQDM_DISABLE", None)
    ready["JUPYTER_PATH"] = with_own_kernels(os.environ.get("JUPYTER_PATH", ""))
    # CONFIG turns off the question whether JupyterLab may fetch news, because nothing here needs a network.
    ready["JUPYTER_CONFIG_PATH"] = os.pathsep.join(filter(None, [os.environ.get("JUPYTER_CONFIG_PATH"), str(CONFIG)]))
    return ready


def open_lab(root: Path, options: Sequence[str] = ()) -> int:
    """Replace this process by JupyterLab; on Windows, run JupyterLab as a subprocess and return its exit status."""
    os.chdir(root)
    if os.name == "nt":  # Windows's exec would return to the shell while JupyterLab still writes to the terminal
        return subprocess.run(command(root, options), env=settings()).returncode
    os.execve(sys.executable, command(root, options), settings())
    return 1  # never reached
