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
from workbook.engine.ledger import STARTED, State, position
from workbook.engine.screen import coloured, duration

PLAIN_EVERY = 20.0
PRIOR = 0.25  # the share of a lesson that has to pass until its own pace counts as much as what was expected


@dataclass(frozen=True)
class Measured:
    """A lesson as `make bench` measured it: its seconds, and the share of them that had passed when each cell began."""

    seconds: float
    shares: list[float]

    def passed(self, cell: int, seconds: float) -> float:
        """Of the measured seconds those that lie behind a lesson which works at `cell` (from 1).

        Args:
            seconds: a guess; a cell may be long, so within it the clock goes on.
        """
        if not cell or not self.shares:
            return min(seconds, self._began(1))
        return min(max(seconds, self._began(cell - 1)), self._began(cell))

    def _began(self, place: int) -> float:
        return self.seconds * (self.shares[place] if place < len(self.shares) else 1.0)


@cache
def measured(lesson: str, budget: str, folder: Path = FOLDER) -> Measured | None:
    """The reference's measurement; of a quick run that was not measured, the usual seconds; None if neither is there."""
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


def pace(elapsed: float, passed: float, whole: float, usual: float = 1.0) -> float:
    """Seconds here for one measured second.

    At the start that is the `usual` pace; the further a lesson is, the more its own seconds decide.

    Args:
        elapsed: seconds since the lesson began here.
        passed: of its `whole` measured seconds those that are done.
    """
    return (elapsed + PRIOR * whole * usual) / (passed + PRIOR * whole)


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
        cell, cells = position(state.folder)
        left = self.seconds_left(name, cell, time.time() - _began(state))
        where = f"{cell} of {cells}" if cell else ""
        return "running", where, "" if left is None else f"{duration(left)} left"

    def seconds_left(self, name: str, cell: int, elapsed: float) -> float | None:
        """How long a lesson that is at `cell` still takes, from its measured seconds at this machine's pace so far."""
        found = self._measured(name)
        if found is None:
            return None
        usual = self._usual_pace()
        passed = found.passed(cell, elapsed / usual)
        return (found.seconds - passed) * pace(elapsed, passed, found.seconds, usual)

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


def _began(state: State) -> float:
    """When an attempt began, in seconds since 1970."""
    try:
        return float(json.loads((state.folder / STARTED).read_text(encoding="utf-8"))["began"]) if state.folder else 0.0
    except (OSError, ValueError, KeyError):
        return time.time()
