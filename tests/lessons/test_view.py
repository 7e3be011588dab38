"""workbook.lessons.view: what a run looks like while it runs, with and without a terminal."""

from __future__ import annotations

import io
import time
from pathlib import Path

import pytest
from rich.console import Console

from workbook.lessons import Lesson, view
from workbook.lessons.attempt import Attempt, Outcome
from workbook.lessons.run import Run
from workbook.lessons.view import LineView, TableView, minutes_left


@pytest.fixture
def attempt() -> Attempt:
    return Attempt(Lesson(Path("00_start_here.ipynb")), {"budget": "quick"}, Path("runs"))


@pytest.fixture(autouse=True)
def reference(monkeypatch):
    monkeypatch.setattr(view, "_reference", lambda *_: None)


def test_lines_tell_the_start_now_and_then_and_the_end(attempt, monkeypatch):
    console = Console(file=io.StringIO(), width=100)
    run, watch = Run(Path("runs"), [attempt], 1), LineView(console)
    watch(run)
    attempt.began = time.monotonic()
    watch(run)
    attempt.cell, attempt.cells = 4, 10
    watch(run)
    monkeypatch.setattr(view, "PLAIN_EVERY", 0.0)
    watch(run)
    attempt.outcome = Outcome("done", 12.0)
    watch(run)
    watch(run)
    assert console.file.getvalue().splitlines() == [
        "00_start_here: running",
        "00_start_here: running (cell 5 of 10, under a minute)",
        "00_start_here: done (12 s)",
    ]


def test_a_terminal_gets_a_table(attempt):
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    attempt.began, attempt.cell, attempt.cells = time.monotonic() - 300, 5, 10
    with view.view(console) as watch:
        assert isinstance(watch, TableView)
        watch(Run(Path("runs"), [attempt], 1))
    text = console.file.getvalue()
    assert "00_start_here" in text and "6 of 10" in text and "about 5 min" in text


def test_minutes_left_follow_an_earlier_run(attempt, monkeypatch):
    attempt.cell, attempt.cells = 5, 10
    assert minutes_left(attempt, 300) == "about 5 min"
    shares = [0, 0.02, 0.04, 0.06, 0.08, 0.1, 0.2, 0.3, 0.4, 0.5]
    monkeypatch.setattr(view, "_reference", lambda *_: (shares, 3000.0))
    assert minutes_left(attempt, 300) == "about 45 min"
    attempt.cell = 0
    assert minutes_left(attempt, 1) == ""


def test_within_a_long_cell_the_time_left_goes_down(attempt, monkeypatch):
    attempt.cell, attempt.cells = 1, 3
    monkeypatch.setattr(view, "_reference", lambda *_: ([0, 0.1, 0.9], 1000.0))
    said = [minutes_left(attempt, seconds) for seconds in (100, 400, 880)]
    assert said == ["about 15 min", "about 10 min", "about 2 min"]
    assert minutes_left(attempt, 2700) == "about 5 min", "on a slower machine: a tenth is still to come"
