"""What a command shows while it works: a table that redraws itself on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table

from helpers.redaction import redacted

COLOURS = {"done": "green", "failed": "red", "crashed": "red", "running": "cyan"}


def say(text: str, console: Console | None = None) -> None:
    """Print text without markup and with secrets redacted, because output gets into chats and schedulers' logs."""
    (console or Console(soft_wrap=True)).print(redacted(text), markup=False, highlight=False)


def coloured(status: str, text: object) -> str:
    """A text in the colour of a run's status, for a table."""
    return f"[{COLOURS.get(status, 'dim')}]{text}[/]"


@contextmanager
def live_view(
    console: Console, table: Callable[[], Table], lines: Callable[[], Iterable[str]]
) -> Iterator[Callable[[], None]]:
    """Yield a function to call after changes: it redraws the table, or without a terminal prints new lines."""
    if console.is_terminal:
        with Live(console=console, refresh_per_second=4, transient=True) as live:
            yield lambda: live.update(table())
        return

    def tell() -> None:
        for line in lines():
            say(line, console)

    yield tell


def duration(seconds: float) -> str:
    """A duration in words, such as `about 5 min`."""
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    return f"about {round(seconds / 60)} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"


def shown(path: Path) -> str:
    """A path relative to the current folder if it is inside it, else the path as it is."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
