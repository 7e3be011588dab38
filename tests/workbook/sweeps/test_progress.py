"""A sweep's progress: a table on a terminal, plain lines elsewhere, both with the time left."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from workbook.engine.ledger import Outcome, State
from workbook.engine.screen import duration, live_view
from workbook.sweeps.progress import SweepProgress, counts, time_left


def state(status: str, seconds: float = 10.0) -> State:
    outcome = Outcome(status, seconds) if status in ("done", "failed", "crashed") else None
    return State(status, Path("attempt-001"), outcome)


@pytest.fixture
def campaign():
    """Six runs, one in each state, two queued."""
    names = ("done", "failed", "crashed", "running", "queued", "queued")
    return SimpleNamespace(states={str(place): state(name) for place, name in enumerate(names)}, slots=2)


@pytest.fixture
def plan():
    runs = {str(place): {"rate": 0.1, "seed": place} for place in range(6)}
    return SimpleNamespace(name="tiny", runs=runs, varied=["rate"])


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


def test_plain_lines_tell_each_end_once(campaign, plan):
    out = io.StringIO()
    ended = {place: campaign.states.pop(place) for place in ("1", "2")}
    progress = SweepProgress(plan, campaign)  # the first one was done before the command began
    campaign.states |= ended
    with live_view(Console(file=out, width=100, force_terminal=False), progress.table, progress.lines) as watch:
        watch()
        watch()
        campaign.states["3"] = state("done", 4.0)
        watch()
    assert out.getvalue().splitlines() == [
        "failed in 10.0 s: rate=0.1, seed=1 (3 of 6, 12 s left)",
        "crashed in 10.0 s: rate=0.1, seed=2 (3 of 6, 12 s left)",
        "done in 4.0 s: rate=0.1, seed=3 (4 of 6, 7 s left)",
    ]


def test_a_terminal_gets_a_table(campaign, plan):
    out = io.StringIO()
    progress = SweepProgress(plan, campaign)
    with live_view(Console(file=out, width=100, force_terminal=True), progress.table, progress.lines) as watch:
        watch()
    said = out.getvalue()
    assert all(word in said for word in ("queued", "running", "done", "failed", "crashed", "left", "12 s", "tiny"))
