"""How a sweep is asked to end: Ctrl-C, a signal, a terminal that closes."""

from __future__ import annotations

import signal


class Interrupts:
    """Within this, a request to end is like Ctrl-C; a closed terminal leaves an external cluster at work."""

    def __init__(self, external: bool):
        self.external = external

    def __enter__(self) -> None:
        def stop(*_: object) -> None:
            raise KeyboardInterrupt

        def leave(*_: object) -> None:
            raise SystemExit(129)

        self.before = {
            # A shell that starts a command in the background lets it ignore Ctrl-C.
            signal.SIGINT: signal.signal(signal.SIGINT, stop),
            signal.SIGTERM: signal.signal(signal.SIGTERM, stop),
            signal.SIGHUP: signal.signal(signal.SIGHUP, leave if self.external else stop),
        }

    def __exit__(self, *error: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
