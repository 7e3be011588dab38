"""The progress of a run: each lesson's state and current cell, and the time left, estimated from measured seconds."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from rich.box import SIMPLE
from rich.table import Table

from helpers.reference import FOLDER
from workbook.engine.campaign import Campaign
from workbook.engine.ledger import State, position, started
from workbook.engine.screen import coloured, duration

PLAIN_EVERY = 20.0
PRIOR = 0.15  # weight of the usual pace, as a share of the measured seconds that are left


@dataclass(frozen=True)
class Measured:
    """A lesson as `make bench` measured it: its seconds, and the share of them that had passed when each cell began."""

    seconds: float
    shares: list[float]

    def span(self, cell: int) -> tuple[float, float]:
        """The measured seconds at which a cell (from 1) began and ended; for cell 0, (0, the end of the first cell)."""
        return (self._began(cell - 1), self._began(cell)) if cell and self.shares else (0.0, self._began(1))

    def _began(self, place: int) -> float:
        return self.seconds * (self.shares[place] if place < len(self.shares) else 1.0)


@cache
def measured(lesson: str, budget: str, folder: Path = FOLDER) -> Measured | None:
    """The reference measurement; for an unmeasured quick run, the median of all quick runs; None without either."""
    try:
        kept = json.loads((folder / "lessons.json").read_text(encoding="utf-8"))
        seconds = {(row["lesson"], row["budget"]): row["seconds"] for row in kept["lessons"]}
        shares: dict = kept["shares"].get(lesson, {})
    except (OSError, ValueError, KeyError):
        return None
    if (lesson, budget) in seconds:
        return Measured(seconds[lesson, budget], shares.get(budget, []))
    quick = [value for (_, other), value in seconds.items() if other == budget == "quick"]
    return Measured(statistics.median(quick), shares.get("standard", [])) if quick and shares else None


def seconds_left(measured: Measured, cell: int, elapsed: float, in_cell: float, usual: float = 1.0) -> float:
    """Return the seconds that a lesson still takes: the measured seconds that are left, times its pace so far.

    A pace is the number of seconds on this machine per measured second. It is at first the `usual` pace; the more of
    the lesson is done, the more the lesson's own seconds decide the pace.

    Args:
        elapsed: seconds since the lesson began here, `in_cell` of them in its current cell.
    """
    began, ends = measured.span(cell)
    prior = PRIOR * (measured.seconds - began)
    pace = (elapsed - in_cell + prior * usual) / (began + prior) if measured.seconds else usual
    return (measured.seconds - min(began + in_cell / max(pace, 0.01), ends)) * pace


class Progress:
    """The states of a run's lessons, as a table or as lines."""

    def __init__(self, campaign: Campaign, folder: Path = FOLDER):
        self.campaign, self.folder = campaign, folder
        self._last: dict[str, str] = {}
        self._shown: dict[str, float] = {}

    def table(self) -> Table:
        """A row for each lesson."""
        table = Table("lesson", "", "cell", "left", box=SIMPLE)
        for name, state in self.campaign.states.items():
            status, where, left = self.words(name, state)
            table.add_row(name, coloured(state.status, status), where, left)
        return table

    def lines(self) -> Iterator[str]:
        """A line when a lesson starts or ends, and one every PLAIN_EVERY seconds while it runs."""
        for name, state in self.campaign.states.items():
            status, where, left = self.words(name, state)
            due = status == "running" and time.monotonic() - self._shown.get(name, 0.0) > PLAIN_EVERY
            if status != "waiting" and (status != self._last.get(name) or due):
                rest = ", ".join(part for part in (f"cell {where}" if where else "", left) if part)
                yield f"{name}: {status}" + (f" ({rest})" if rest else "")
                self._shown[name] = time.monotonic()
            self._last[name] = status

    def words(self, name: str, state: State) -> tuple[str, str, str]:
        """The texts to show for a lesson: its state, its current cell, and the time that is left or was taken."""
        if state.outcome:
            return ("done" if state.status == "done" else "failed"), "", f"{state.outcome.seconds:.0f} s"
        if state.status != "running":
            return "waiting", "", ""
        cell, cells, began = position(state.folder)
        now, start = time.time(), started(state.folder)
        left = self.seconds_left(name, cell, now - start, now - max(began, start))
        return "running", f"{cell} of {cells}" if cell else "", "" if left is None else f"{duration(left)} left"

    def seconds_left(self, name: str, cell: int, elapsed: float, in_cell: float) -> float | None:
        """The seconds that a lesson still takes; None if it was never measured."""
        found = self._measured(name)
        return seconds_left(found, cell, elapsed, in_cell, self._usual_pace()) if found else None

    def _usual_pace(self) -> float:
        """The pace of the finished lessons; 1 while none is finished."""
        here = there = 0.0
        for name, state in self.campaign.states.items():
            found = self._measured(name)
            if found and state.outcome and state.status == "done":
                here, there = here + state.outcome.seconds, there + found.seconds
        return here / there if there else 1.0

    def _measured(self, name: str) -> Measured | None:
        return measured(name, str(self.campaign.tasks[name].parameters.get("budget", "standard")), self.folder)
