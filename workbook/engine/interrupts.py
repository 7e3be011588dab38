"""How a command is asked to end: Ctrl-C, a signal, a terminal that closes."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

INTERRUPTED = 130  # the exit status of a command that was asked to end


@contextmanager
def interruptible(leave_on_hangup: bool = False) -> Iterator[None]:
    """Within this, the first request to end raises `KeyboardInterrupt`; further requests change nothing.

    Args:
        leave_on_hangup: when the terminal closes, end this command alone (`SystemExit`), not what others run for it.
    """
    # A shell that starts a command in the background lets it ignore Ctrl-C. Windows knows no SIGHUP.
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
        if not asked:  # else the end is on its way, and is not to be cut short
            for number, handler in before.items():
                signal.signal(number, handler)
