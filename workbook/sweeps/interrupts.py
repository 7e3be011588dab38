"""How a sweep is asked to end: Ctrl-C, a signal, a terminal that closes."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker

CTRL_C = {signal.SIGINT}


class Interrupts:
    """Within this, the first request to end is like Ctrl-C; a closed terminal leaves an external cluster at work.

    Further requests change nothing: the end is on its way.
    """

    def __init__(self, external: bool):
        self.external = external
        self.asked = self.holding = False
        self.waiting: BaseException | None = None

    def __enter__(self) -> Interrupts:
        def stop(*_: object) -> None:
            self._ask(KeyboardInterrupt())

        def leave(*_: object) -> None:
            self._ask(SystemExit(129))

        self.before = {
            # A shell that starts a command in the background lets it ignore Ctrl-C.
            signal.SIGINT: signal.signal(signal.SIGINT, stop),
            signal.SIGTERM: signal.signal(signal.SIGTERM, stop),
            signal.SIGHUP: signal.signal(signal.SIGHUP, leave if self.external else stop),
        }
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, signal.SIG_IGN if self.asked else handler)

    @contextmanager
    def held(self) -> Iterator[None]:
        """A request within this waits for its end: a cluster that is half started cannot be ended.

        Threads and processes that begin within this do not hear Ctrl-C, which a terminal sends to all alike.
        """
        self.holding = True
        resource_tracker.ensure_running()  # its start would make the thread that starts it hear Ctrl-C again
        signal.pthread_sigmask(signal.SIG_BLOCK, CTRL_C)
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, CTRL_C)
            self.holding = False
        if self.waiting:
            raise self.waiting

    def _ask(self, request: BaseException) -> None:
        if self.asked:
            return
        self.asked = True
        if self.holding:
            self.waiting = request
        else:
            raise request
