"""How far a run is: each lesson's state and cell, and how long it still takes, from measured seconds."""

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
PRIOR = 0.15  # what the usual pace weighs at a lesson's start: as much as this share of the lesson would


@dataclass(frozen=True)
class Measured:
    """A lesson as `make bench` measured it: its seconds, and the share of them that had passed when each cell began."""

    seconds: float
    shares: list[float]

    def span(self, cell: int) -> tuple[float, float]:
        """The measured seconds at which a cell (from 1) began and ended; before the first, (0, its beginning)."""
        return (self._began(cell - 1), self._began(cell)) if cell and self.shares else (0.0, self._began(1))

    def _began(self, place: int) -> float:
        return self.seconds * (self.shares[place] if place < len(self.shares) else 1.0)


@cache
def measured(lesson: str, budget: str, folder: Path = FOLDER) -> Measured | None:
    """The reference's measurement; for a quick run without one, the usual seconds; None if neither is there."""
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
    """How long a lesson still takes: the measured seconds that are left, at its pace until the cell it works at.

    At the start that is the `usual` pace (seconds here for one measured second); the further the lesson is, the more
    its own seconds decide.

    Args:
        elapsed: seconds since the lesson began here, `in_cell` of them in this cell.
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
        """A line when a lesson starts or ends, and one now and then for those that run."""
        for name, state in self.campaign.states.items():
            status, where, left = self.words(name, state)
            due = status == "running" and time.monotonic() - self._shown.get(name, 0.0) > PLAIN_EVERY
            if status != "waiting" and (status != self._last.get(name) or due):
                rest = ", ".join(part for part in (f"cell {where}" if where else "", left) if part)
                yield f"{name}: {status}" + (f" ({rest})" if rest else "")
                self._shown[name] = time.monotonic()
            self._last[name] = status

    def words(self, name: str, state: State) -> tuple[str, str, str]:
        """What to show of a lesson: its state, its cell, the time that is left or was taken."""
        if state.outcome:
            return ("done" if state.status == "done" else "failed"), "", f"{state.outcome.seconds:.0f} s"
        if state.status != "running":
            return "waiting", "", ""
        cell, cells, began = position(state.folder)
        now, start = time.time(), started(state.folder)
        left = self.seconds_left(name, cell, now - start, now - max(began, start))
        return "running", f"{cell} of {cells}" if cell else "", "" if left is None else f"{duration(left)} left"

    def seconds_left(self, name: str, cell: int, elapsed: float, in_cell: float) -> float | None:
        """How long a lesson still takes; None where it was not measured."""
        found = self._measured(name)
        return seconds_left(found, cell, elapsed, in_cell, self._usual_pace()) if found else None

    def _usual_pace(self) -> float:
        """The pace of the lessons that are done; 1 while none is."""
        here = there = 0.0
        for name, state in self.campaign.states.items():
            found = self._measured(name)
            if found and state.outcome and state.status == "done":
                here, there = here + state.outcome.seconds, there + found.seconds
        return here / there if there else 1.0

    def _measured(self, name: str) -> Measured | None:
        return measured(name, str(self.campaign.tasks[name].parameters.get("budget", "standard")), self.folder)
