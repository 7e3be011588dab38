"""The progress of a sweep: counts, the time left, and a line for each run that ends."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

from rich.box import SIMPLE
from rich.table import Table

from workbook.engine.campaign import Campaign
from workbook.engine.ledger import STATES, State
from workbook.engine.screen import coloured, duration
from workbook.sweeps.plan import Plan

PLAIN_EVERY = 30.0
ENDED = ("done", "failed", "crashed")


def counts(states: dict[str, State]) -> dict[str, int]:
    """The number of runs in each state."""
    found = Counter(state.status for state in states.values())
    return {status: found.get(status, 0) for status in STATES}


def time_left(states: dict[str, State], slots: int) -> str:
    """The time left, estimated from the finished runs; "" if none is finished or all are."""
    seconds = [state.outcome.seconds for state in states.values() if state.outcome and state.status == "done"]
    number = counts(states)
    left = number["queued"] + number["running"] / 2
    if not seconds or not left:
        return ""
    return duration(left * sum(seconds) / len(seconds) / max(1, slots))


def label(parameters: dict[str, object], varied: list[str]) -> str:
    """A run's name for a reader: the values of its varied parameters and its seed."""
    return ", ".join(f"{name}={parameters[name]}" for name in [*varied, "seed"] if name in parameters)


class SweepProgress:
    """The states of a sweep's runs, as a table of counts or as lines."""

    def __init__(self, plan: Plan, campaign: Campaign):
        self.plan, self.campaign, self._said = plan, campaign, time.monotonic()
        self._ended = {run for run, state in campaign.states.items() if state.status in ENDED}  # not reported again

    def table(self) -> Table:
        """One row: how many runs are in each state, and the time left."""
        table = Table(*STATES, "left", box=SIMPLE, title=self.plan.name)
        number = counts(self.campaign.states)
        cells = [coloured(status, number[status]) for status in STATES]
        table.add_row(*cells, time_left(self.campaign.states, self.campaign.slots))
        return table

    def lines(self) -> Iterator[str]:
        """A line when a run ends, and the counts if PLAIN_EVERY seconds pass without a line."""
        number = counts(self.campaign.states)
        for run, state in self.campaign.states.items():
            if run not in self._ended and state.status in ENDED:
                self._ended.add(run)
                self._said = time.monotonic()
                yield self._line(run, state, number)
        if time.monotonic() - self._said > PLAIN_EVERY:
            self._said = time.monotonic()
            yield ", ".join(f"{count} {status}" for status, count in number.items() if count)

    def _line(self, run: str, state: State, number: dict[str, int]) -> str:
        left = time_left(self.campaign.states, self.campaign.slots)
        rest = f"{sum(number[status] for status in ENDED)} of {len(self.campaign.states)}"
        rest += f", {left} left" if left else ""
        seconds = state.outcome.seconds if state.outcome else 0.0
        return f"{state.status} in {seconds:.1f} s: {label(self.plan.runs[run], self.plan.varied)} ({rest})"
