"""The live view of a run: a table that redraws itself on a terminal, plain lines elsewhere."""

from __future__ import annotations

import json
import time
from functools import cache

from rich.box import SIMPLE
from rich.console import Console
from rich.live import Live
from rich.table import Table

from helpers.paths import ROOT
from workbook.lessons.attempt import Attempt
from workbook.lessons.run import Run

REFERENCE = ROOT / "data" / "reference" / "lessons.json"
PLAIN_EVERY = 20.0


def minutes_left(attempt: Attempt, seconds: float) -> str:
    """How long a running attempt still takes, from its share of cells or, better, from an earlier run's seconds."""
    if not attempt.cells or not attempt.cell:
        return ""
    position = attempt.cell / attempt.cells
    earlier = _reference(attempt.lesson.name, attempt.parameters.get("budget", "standard"))
    share = _passed(position, seconds, *earlier) if earlier else position
    if share < 0.02:
        return ""
    left = seconds * (1 - share) / share
    return "under a minute" if left < 60 else f"about {round(left / 60)} min"


def _passed(position: float, seconds: float, shares: list[float], whole: float) -> float:
    """The share of an earlier run's seconds that has passed: a cell may be long, so within it its clock goes on."""
    index = min(int(position * len(shares)), len(shares) - 1)
    following = [*shares[index + 1 :], 1.0][0]
    return min(max(seconds / whole, shares[index]), following)


@cache
def _reference(lesson: str, budget: object) -> tuple[list[float], float] | None:
    """The share of all seconds that had passed when each cell began, and these seconds; None if not measured."""
    try:
        kept = json.loads(REFERENCE.read_text(encoding="utf-8"))
        shares = kept["shares"][lesson][budget]
        seconds = {(row["lesson"], row["budget"]): row["seconds"] for row in kept["lessons"]}
        return shares, seconds[lesson, budget]
    except (OSError, ValueError, KeyError):
        return None


def state(attempt: Attempt) -> tuple[str, str, str]:
    """What to show of an attempt: its state, its cell, the time that is left or was taken."""
    if attempt.outcome:
        return attempt.outcome.status, "", f"{attempt.outcome.seconds:.0f} s"
    if attempt.began is None:
        return "waiting", "", ""
    where = f"{attempt.cell + 1} of {attempt.cells}" if attempt.cells else ""
    return "running", where, minutes_left(attempt, time.monotonic() - attempt.began)


class TableView:
    """A table redrawn in place."""

    def __init__(self, console: Console):
        self.live = Live(console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> TableView:
        self.live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.live.stop()

    def __call__(self, run: Run) -> None:
        table = Table("lesson", "", "cell", "left", box=SIMPLE)
        colours = {"done": "green", "failed": "red", "running": "cyan"}
        for attempt in run.attempts:
            status, where, left = state(attempt)
            table.add_row(attempt.lesson.name, f"[{colours.get(status, 'dim')}]{status}[/]", where, left)
        self.live.update(table)


class LineView:
    """A line when a lesson starts or ends, and one now and then for those that run."""

    def __init__(self, console: Console):
        self.console, self.last, self.shown = console, {}, {}

    def __enter__(self) -> LineView:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def __call__(self, run: Run) -> None:
        for attempt in run.attempts:
            name, (status, where, left) = attempt.lesson.name, state(attempt)
            due = status == "running" and time.monotonic() - self.shown.get(name, 0) > PLAIN_EVERY
            if status != "waiting" and (status != self.last.get(name) or due):
                rest = ", ".join(part for part in (f"cell {where}" if where else "", left) if part)
                self.console.print(f"{name}: {status}" + (f" ({rest})" if rest else ""), highlight=False)
                self.shown[name] = time.monotonic()
            self.last[name] = status


def view(console: Console) -> TableView | LineView:
    """The view that suits where the output goes."""
    return TableView(console) if console.is_terminal else LineView(console)
