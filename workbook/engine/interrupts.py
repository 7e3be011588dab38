"""Handles requests to end a command: Ctrl-C, a signal, or a terminal that closes."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

INTERRUPTED = 130  # the exit status of a command that was asked to end


@contextmanager
def interruptible(leave_on_hangup: bool = False) -> Iterator[None]:
    """Raise `KeyboardInterrupt` at the first request to end within the block; ignore further requests.

    Args:
        leave_on_hangup: if the terminal closes, end only this command (`SystemExit`), not the runs of its workers.
    """
    # SIGINT is among them because a shell makes background commands ignore it. Windows has no SIGHUP.
    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    asked = False

    def end(number: int, _frame: object) -> None:
        nonlocal asked
        asked = True
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)
        if leave_on_hangup and signal.Signals(number).name == "SIGHUP":
            raise SystemExit(129)
        raise KeyboardInterrupt

    for number in numbers:
        signal.signal(number, end)
    try:
        yield
    finally:
        if not asked:  # otherwise the signals stay ignored, so that nothing interrupts the clean-up
            for number, handler in before.items():
                signal.signal(number, handler)
