"""Measures the seconds that a block of code takes and the memory that it adds."""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
import time

import psutil
import torch


class Stopwatch:
    """Measures a `with` block: read `seconds` after it, or `total` for all uses. Waits for the GPU to finish."""

    seconds: float = 0.0
    total: float = 0.0

    def __enter__(self) -> Stopwatch:
        _finish_gpu_work()
        self._start = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        _finish_gpu_work()
        self.seconds = time.perf_counter() - self._start
        self.total += self.seconds


class PeakMemory:
    """The most memory that a block of code added to this process, in bytes.

    On a CPU, a thread reads the resident memory every few milliseconds. Memory that earlier code has freed is first
    returned to the system, because the block could reuse it unnoticed. On a GPU, the CUDA allocator reports the peak.
    Read `added` (bytes above the start) after the block.
    """

    added: int = 0

    def __init__(self, every: float = 0.005) -> None:
        self.every = every

    def __enter__(self) -> PeakMemory:
        gc.collect()
        self._gpu = torch.cuda.is_available()
        if self._gpu:
            torch.cuda.reset_peak_memory_stats()
            self._start = torch.cuda.memory_allocated()
            return self
        _release_freed_memory()
        self._process = psutil.Process()
        self._start = self._peak = self._process.memory_info().rss
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._stop.wait(self.every):
            self._peak = max(self._peak, self._process.memory_info().rss)

    def __exit__(self, *_: object) -> None:
        if self._gpu:
            self.added = torch.cuda.max_memory_allocated() - self._start
            return
        self._stop.set()
        self._thread.join()
        self._peak = max(self._peak, self._process.memory_info().rss)
        self.added = self._peak - self._start


def _finish_gpu_work() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _release_freed_memory() -> None:
    if sys.platform == "linux":
        try:
            ctypes.CDLL("libc.so.6").malloc_trim(0)
        except (OSError, AttributeError):  # without glibc the measured peak is slightly too low
            return
