"""A worker's hold on its lanes: one run at a time each, ended on time, never left behind."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from workbook.sweeps.lane import END, end
from workbook.sweeps.starting import Starter, connect

BEAT = 0.5
LOADING = 600.0  # seconds that a starter may take for its imports

_idle: dict[str, list[Runner]] = {}
_idle_lock = threading.Lock()


class Runner:
    """One lane, and the socket to it; where the starter at hand does not answer, the lane of a starter of its own.

    Args:
        starters: a folder with the sockets of starters, "" when there is none.
    """

    def __init__(self, setup: dict, starters: str = ""):
        self.setup, self.own = setup, None
        self.ready = self.closed = False
        try:
            self._hold(connect(starters, setup))
        except OSError:
            self._begin_own()

    def run(self, job: dict, seconds: float, stopped: Callable[[], bool]) -> tuple[str, int]:
        """Run a job; return ("ended", status), ("timeout", 0), ("stopped", 0) or ("lost", 0).

        Args:
            stopped: asked twice a second; the run is ended when it says yes.
        """
        pid = None
        try:
            self._wait_for_lane(stopped)
            self.socket.sendall((json.dumps(job) + "\n").encode())
            deadline = time.monotonic() + seconds
            pid = self._next(stopped, deadline)["pid"]
            return "ended", self._next(stopped, deadline)["status"]
        except (ConnectionError, EOFError):
            self.close()
            if pid:
                end(pid, job["folder"])
            return "lost", 0
        except (TimeoutError, InterruptedError) as reason:
            self._end_run()
            return ("timeout" if isinstance(reason, TimeoutError) else "stopped"), 0

    def close(self) -> None:
        """End the lane, by closing what it listens to, and everything below it."""
        self.closed = True
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)
            self.socket.settimeout(10)
            while self.ready and self.socket.recv(4096):  # nothing more comes when it has ended
                continue
        self._let_go()
        if self.own:
            self.own.close()

    def _hold(self, connection: socket.socket) -> None:
        self.socket = connection
        self.words = connection.makefile("rb", buffering=0)  # what a buffer had taken, `select` would not see

    def _begin_own(self) -> None:
        self.own = Starter(self.setup)
        self._hold(connect(self.own.folder, self.setup))

    def _wait_for_lane(self, stopped: Callable[[], bool]) -> None:
        """Wait until a lane answers; a shared starter that dies or hangs before is replaced by one of our own."""
        if self.ready:
            return
        try:
            self._next(stopped, time.monotonic() + LOADING)
        except (ConnectionError, EOFError, TimeoutError):
            if self.own:
                raise
            self._let_go()
            self._begin_own()
            self._next(stopped, time.monotonic() + LOADING)
        self.ready = True

    def _let_go(self) -> None:
        self.words.close()
        self.socket.close()

    def _next(self, stopped: Callable[[], bool], deadline: float) -> dict:
        """The lane's next word."""
        while True:
            ready, _, _ = select.select([self.socket], [], [], BEAT)
            if ready:
                line = self.words.readline()
                if not line:
                    raise EOFError
                return json.loads(line)
            if stopped():
                raise InterruptedError
            if time.monotonic() > deadline:
                raise TimeoutError

    def _end_run(self) -> None:
        if not self.ready:  # its starter still imports: a lane that is closed before it begins does nothing
            self.close()
            return
        try:
            self.socket.sendall(END + b"\n")
            while "status" not in self._next(lambda: False, time.monotonic() + 20):
                continue
        except (OSError, EOFError, TimeoutError):
            self.close()


@contextmanager
def runner(setup: dict, starters: str = "") -> Iterator[Runner]:
    """A runner for this setup: an idle one, or a new one; kept for the next run afterwards."""
    key = json.dumps(setup, sort_keys=True)
    with _idle_lock:
        spare = [each for other, kept in _idle.items() if other != key for each in kept]
        for other in set(_idle) - {key}:
            _idle[other] = []
        one = _idle.setdefault(key, []).pop() if _idle.get(key) else None
    for other in spare:
        other.close()  # a starter of another notebook would only hold memory
    one = one or Runner(setup, starters)
    try:
        yield one
    finally:
        if not one.closed:
            with _idle_lock:
                _idle.setdefault(key, []).append(one)
