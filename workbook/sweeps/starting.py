"""Starters seen from those who use them: what one has to know, where it listens, how it begins and ends."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from workbook.lessons import Lesson
from workbook.lessons.kernel import environment
from workbook.sweeps.identity import imports
from workbook.sweeps.scratch import scratch_folder


def setup_of(lesson: Lesson, parameters: dict[str, object], threads: int) -> dict:
    """What a starter has to know for a run with these parameters: runs with the same setup can share one."""
    warm = warm_imports_are_safe()
    return {
        "threads": threads,
        "track": parameters.get("track", "pocket"),
        "warm": warm,
        "imports": imports(lesson) if warm else [],
    }


class Starter:
    """A process with the libraries loaded, and the folder with the socket at which it gives out lanes.

    Only this user can connect, and at once: the starter answers when it has loaded the libraries.
    """

    def __init__(self, setup: dict):
        settings = environment(threads=setup["threads"], track=setup["track"])
        # Dask tells its workers to give freed memory back at once. Training frees and takes the same tensors at every
        # step, and would spend a third of its time on that.
        settings.pop("MALLOC_TRIM_THRESHOLD_", None)
        # Figures go into the notebook; asking for a GPU must not open it before the copy is made.
        settings |= {"MPLBACKEND": "module://matplotlib_inline.backend_inline", "PYTORCH_NVML_BASED_CUDA_CHECK": "1"}
        self.folder = scratch_folder("sweep-starter-")
        try:
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(str(_address(self.folder, setup)))
                listener.listen(1024)  # all workers of a large machine may wait while the libraries are loaded
                number = listener.fileno()
                self.process = subprocess.Popen(
                    [sys.executable, "-m", "workbook.sweeps.starter", str(number), json.dumps(setup)],
                    env=settings,
                    pass_fds=[number],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise

    def close(self) -> None:
        """End it; its lanes end when those that they work for have closed them."""
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        try:
            self.process.wait(timeout=1)
        except subprocess.TimeoutExpired:  # it still imports, and would not listen
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def starter_ahead(setup: dict) -> Iterator[str]:
    """A starter for all workers of this machine, which loads the libraries while they begin: its folder."""
    starter = Starter(setup)
    try:
        yield starter.folder
    finally:
        starter.close()


def warm_imports_are_safe() -> bool:
    """Copying a process with libraries loaded is safe on Linux without a GPU; elsewhere each kernel imports anew."""
    gpu = shutil.which("nvidia-smi") or Path("/proc/driver/nvidia/version").exists() or Path("/dev/kfd").exists()
    return sys.platform.startswith("linux") and not gpu and not os.environ.get("WORKBOOK_COLD_KERNELS")


def _address(folder: str, setup: dict) -> Path:
    """Where a starter with this setup listens; the name is short, since a socket's path may not be long."""
    return Path(folder) / hashlib.sha256(json.dumps(setup, sort_keys=True).encode()).hexdigest()[:8]


def connect(folder: str, setup: dict) -> socket.socket:
    """A connection to the starter with this setup.

    Raises:
        OSError: there is none in this folder, or it has ended.
    """
    if not folder:  # a name without a folder would be looked for wherever this process happens to work
        raise FileNotFoundError("no starter")
    made = socket.socket(socket.AF_UNIX)
    try:
        made.connect(str(_address(folder, setup)))
    except OSError:
        made.close()
        raise
    return made
