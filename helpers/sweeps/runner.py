"""A worker's hold on its starters: one run at a time each, ended on time, never left behind."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from helpers.lessons.kernel import environment
from helpers.sweeps.starter import END, end

BEAT = 0.5

_idle: dict[str, list[Runner]] = {}
_idle_lock = threading.Lock()


class Runner:
    """One starter process and the pipes to it."""

    def __init__(self, setup: dict):
        settings = environment(threads=setup["threads"], track=setup["track"])
        # Dask tells its workers to give freed memory back at once. Training frees and takes the same tensors at every
        # step, and would spend a third of its time on that.
        settings.pop("MALLOC_TRIM_THRESHOLD_", None)
        # Figures go into the notebook; asking for a GPU must not open it before the copy is made.
        settings |= {"MPLBACKEND": "module://matplotlib_inline.backend_inline", "PYTORCH_NVML_BASED_CUDA_CHECK": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "helpers.sweeps.starter", json.dumps(setup)],
            env=settings,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            bufsize=0,  # what a buffer had already taken would be invisible to `select`
        )
        self.ready = False

    def run(self, job: dict, seconds: float, stopped: Callable[[], bool]) -> tuple[str, int]:
        """Run a job; return ("ended", status), ("timeout", 0), ("stopped", 0) or ("lost", 0).

        Args:
            stopped: asked twice a second; the run is ended when it says yes.
        """
        pid = None
        try:
            if not self.ready:
                self.ready = "ready" in self._next(stopped, time.monotonic() + 600)
            self.process.stdin.write((json.dumps(job) + "\n").encode())
            self.process.stdin.flush()
            deadline = time.monotonic() + seconds
            pid = self._next(stopped, deadline)["pid"]
            return "ended", self._next(stopped, deadline)["status"]
        except (BrokenPipeError, EOFError):
            self.close()
            if pid:
                end(pid, job["folder"])
            return "lost", 0
        except (TimeoutError, InterruptedError) as reason:
            self._end_run()
            return ("timeout" if isinstance(reason, TimeoutError) else "stopped"), 0

    def close(self) -> None:
        """End the starter and, through its closed input, everything below it."""
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _next(self, stopped: Callable[[], bool], deadline: float) -> dict:
        """The starter's next word."""
        while True:
            ready, _, _ = select.select([self.process.stdout], [], [], BEAT)
            if ready:
                line = self.process.stdout.readline()
                if not line:
                    raise EOFError
                return json.loads(line)
            if stopped():
                raise InterruptedError
            if time.monotonic() > deadline:
                raise TimeoutError

    def _end_run(self) -> None:
        if not self.ready:  # it still imports, and would not listen
            self.process.kill()
            self.process.wait()
            return
        try:
            self.process.stdin.write(END + b"\n")
            self.process.stdin.flush()
            while "status" not in self._next(lambda: False, time.monotonic() + 20):
                continue
        except (OSError, EOFError, TimeoutError):
            self.close()


@contextlib.contextmanager
def runner(setup: dict):
    """A runner for this setup: an idle one, or a new one; kept for the next run afterwards."""
    key = json.dumps(setup, sort_keys=True)
    with _idle_lock:
        spare = [each for other, kept in _idle.items() if other != key for each in kept]
        for other in set(_idle) - {key}:
            _idle[other] = []
        one = _idle.setdefault(key, []).pop() if _idle.get(key) else None
    for other in spare:
        other.close()  # a starter of another notebook would only hold memory
    one = one or Runner(setup)
    try:
        yield one
    finally:
        if one.process.poll() is None:
            with _idle_lock:
                _idle.setdefault(key, []).append(one)


def warm_imports_are_safe() -> bool:
    """Copying a process with libraries loaded is safe on Linux without a GPU; elsewhere each kernel imports anew."""
    gpu = shutil.which("nvidia-smi") or Path("/proc/driver/nvidia/version").exists() or Path("/dev/kfd").exists()
    return sys.platform.startswith("linux") and not gpu and not os.environ.get("WORKBOOK_COLD_KERNELS")
