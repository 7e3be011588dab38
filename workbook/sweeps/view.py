"""How far a sweep is: counts and the time left, as a table that redraws itself or as plain lines."""

from __future__ import annotations

import time
from collections import Counter

from rich.box import SIMPLE
from rich.console import Console
from rich.live import Live
from rich.table import Table

from helpers.redaction import redacted
from workbook.sweeps.campaign import Campaign
from workbook.sweeps.ledger import STATES, State

COLOURS = {"done": "green", "failed": "red", "crashed": "red", "running": "cyan", "queued": "dim"}
PLAIN_EVERY = 30.0


def counts(states: dict[str, State]) -> dict[str, int]:
    """How many runs are in each state."""
    found = Counter(state.status for state in states.values())
    return {status: found.get(status, 0) for status in STATES}


def time_left(states: dict[str, State], slots: int) -> str:
    """A guess from the runs that are done, "" while none is."""
    seconds = [state.ending.seconds for state in states.values() if state.status == "done"]
    number = counts(states)
    left = number["queued"] + number["running"] / 2
    if not seconds or not left:
        return ""
    return duration(left * sum(seconds) / len(seconds) / max(1, slots))


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    return f"about {round(seconds / 60)} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"


def label(parameters: dict[str, object], varied: list[str]) -> str:
    """A run in a few words: the values in which it differs."""
    names = [*varied, "seed"]
    return ", ".join(f"{name}={parameters[name]}" for name in names if name in parameters)


class SweepTable:
    """Counts in a table that is redrawn in place."""

    def __init__(self, console: Console):
        self.live = Live(console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> SweepTable:
        self.live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.live.stop()

    def __call__(self, campaign: Campaign) -> None:
        table = Table(*STATES, "left", box=SIMPLE, title=campaign.plan.name)
        number = counts(campaign.states)
        cells = [f"[{COLOURS[status]}]{number[status]}[/]" for status in STATES]
        table.add_row(*cells, time_left(campaign.states, campaign.slots))
        self.live.update(table)


class SweepLines:
    """A line when a run ends, and one now and then."""

    def __init__(self, console: Console):
        self.console, self.told, self.said = console, None, time.monotonic()

    def __enter__(self) -> SweepLines:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def __call__(self, campaign: Campaign) -> None:
        number = counts(campaign.states)
        if self.told is None:
            self.told = set(campaign.states) - set(campaign.earlier)  # done before
        for run, state in campaign.states.items():
            if state.ending and run not in self.told and state.status in ("done", "failed", "crashed"):
                self.told.add(run)
                self._tell(campaign, run, state, number)
        if time.monotonic() - self.said > PLAIN_EVERY:
            self._print(", ".join(f"{count} {status}" for status, count in number.items() if count))

    def _tell(self, campaign: Campaign, run: str, state: State, number: dict[str, int]) -> None:
        what = label(campaign.plan.runs[run], campaign.plan.varied)
        left = time_left(campaign.states, campaign.slots)
        ended = sum(number[status] for status in ("done", "failed", "crashed"))
        rest = f"{ended} of {len(campaign.states)}" + (f", {left} left" if left else "")
        self._print(f"{state.status} in {state.ending.seconds:.1f} s: {what} ({rest})")

    def _print(self, text: str) -> None:
        self.said = time.monotonic()
        self.console.print(redacted(text), markup=False, highlight=False)


def view(console: Console) -> SweepTable | SweepLines:
    """The view that suits where the output goes."""
    return SweepTable(console) if console.is_terminal else SweepLines(console)
