"""Progress: a table on a terminal, plain lines elsewhere, both with the time left."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from workbook.sweeps.ledger import Ending, State
from workbook.sweeps.view import SweepLines, SweepTable, counts, duration, time_left, view


def state(status: str, seconds: float = 10.0) -> State:
    ending = Ending(status, seconds) if status in ("done", "failed", "crashed") else None
    return State(status, Path("attempt-001"), ending)


@pytest.fixture
def campaign():
    """Six runs, one in each state, two queued."""
    names = ("done", "failed", "crashed", "running", "queued", "queued")
    runs = {str(place): {"rate": 0.1, "seed": place} for place in range(6)}
    plan = SimpleNamespace(name="tiny", runs=runs, varied=["rate"])
    states = {str(place): state(name) for place, name in enumerate(names)}
    return SimpleNamespace(plan=plan, states=states, slots=2, earlier={run: set() for run in runs})


def test_counts_and_the_time_left(campaign):
    assert counts(campaign.states) == {"queued": 2, "running": 1, "done": 1, "failed": 1, "crashed": 1}
    # Two and a half runs of ten seconds on two slots.
    assert time_left(campaign.states, 2) == "12 s"
    assert time_left({"0": state("queued")}, 2) == time_left({"0": state("done")}, 2) == ""


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "1 s"), (59, "59 s"), (600, "about 10 min"), (9000, "about 2.5 h")]
)
def test_durations_as_people_say_them(seconds, words):
    assert duration(seconds) == words


def test_plain_lines_tell_each_end_once(campaign):
    out = io.StringIO()
    lines = view(Console(file=out, width=100, force_terminal=False))
    assert isinstance(lines, SweepLines)
    campaign.earlier.pop("0")  # this one was done before the command began
    with lines as watch:
        watch(campaign)
        watch(campaign)
        campaign.states["3"] = state("done", 4.0)
        watch(campaign)
    assert out.getvalue().splitlines() == [
        "failed in 10.0 s: rate=0.1, seed=1 (3 of 6, 12 s left)",
        "crashed in 10.0 s: rate=0.1, seed=2 (3 of 6, 12 s left)",
        "done in 4.0 s: rate=0.1, seed=3 (4 of 6, 7 s left)",
    ]


def test_a_terminal_gets_a_table(campaign):
    out = io.StringIO()
    table = view(Console(file=out, width=100, force_terminal=True))
    assert isinstance(table, SweepTable)
    with table as watch:
        watch(campaign)
        watch.live.refresh()
    said = out.getvalue()
    assert all(word in said for word in ("queued", "running", "done", "failed", "crashed", "left", "12 s", "tiny"))
