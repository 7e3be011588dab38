"""workbook.run.progress: what a run looks like while it runs, and a time left that is sensible from the start."""

from __future__ import annotations

import io
import json
import time
from types import SimpleNamespace

import pytest
from rich.console import Console

from helpers.reference import FOLDER
from workbook.engine.ledger import Outcome, State
from workbook.engine.screen import live_view
from workbook.lessons import find
from workbook.run import progress as module
from workbook.run.progress import Measured, Progress, measured, seconds_left

LESSON = "08_lora_pytorch"
SHARES = [0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 0.6, 0.8, 0.9]


@pytest.fixture
def course(tmp_path):
    """Two lessons: one measured at three minutes; a quick run of another at 20 seconds."""
    rows = [("08_lora_pytorch", "standard", 180.0), ("01_two", "standard", 100.0), ("01_two", "quick", 20.0)]
    kept = {
        "lessons": [{"lesson": name, "budget": budget, "seconds": seconds} for name, budget, seconds in rows],
        "shares": {LESSON: {"standard": SHARES}, "01_two": {"standard": [0.0, 0.5], "quick": [0.0, 0.5]}},
    }
    (tmp_path / "lessons.json").write_text(json.dumps(kept))
    tasks = {name: SimpleNamespace(parameters={}) for name in (LESSON, "01_two")}
    return Progress(SimpleNamespace(tasks=tasks, states={name: State("queued") for name in tasks}), tmp_path)


@pytest.fixture
def running(tmp_path):
    """Make the state of a lesson that began some seconds ago and works at a cell."""

    def made(seconds: float, cell: int = 0) -> State:
        folder, now = tmp_path / "attempt", time.time()
        folder.mkdir(exist_ok=True)
        (folder / "started.json").write_text(json.dumps({"began": now - seconds}))
        (folder / "progress.json").write_text(json.dumps({"cell": cell, "cells": 10, "began": now} if cell else {}))
        return State("running", folder)

    return made


def test_from_the_first_second_the_time_left_is_what_was_measured(course):
    assert course.seconds_left(LESSON, 0, 0.0, 0.0) == pytest.approx(180)
    assert course.seconds_left(LESSON, 1, 1.0, 1.0) == pytest.approx(179, abs=2)


@pytest.mark.parametrize("slower", [0.5, 1, 2, 4])
def test_it_takes_this_machines_pace(course, slower):
    """A lesson that runs as it was measured, on a machine so many times slower; in each cell's middle."""
    for place, share in enumerate(SHARES):
        whole, inside = 180 * slower, 180 * slower * ([*SHARES, 1.0][place + 1] - share) / 2
        elapsed = whole * share + inside
        left = course.seconds_left(LESSON, place + 1, elapsed, inside)
        assert left < 15 * 60 and (slower != 1 or left == pytest.approx(whole - elapsed))
        if share >= 0.5:
            assert left == pytest.approx(whole - elapsed, rel=0.35), share


def test_a_slow_start_is_no_reason_for_hours(course):
    """Seen once: cell 9 of 79, about 158 min, for a lesson of three minutes whose first imports took a while."""
    assert course.seconds_left(LESSON, 3, 60.0, 0.0) < 15 * 60
    real = Progress(course.campaign, FOLDER)
    assert 60 < real.seconds_left(LESSON, 9, 60.0, 0.0) < 15 * 60


def test_a_lesson_that_is_done_tells_the_pace_of_the_next(course):
    course.campaign.states["01_two"] = State("done", None, Outcome("done", 300.0))
    assert course.seconds_left(LESSON, 0, 0.0, 0.0) == pytest.approx(3 * 180)


def test_a_quick_run_that_was_not_measured_takes_the_usual_seconds(course):
    course.campaign.tasks[LESSON].parameters["budget"] = "quick"
    assert course.seconds_left(LESSON, 0, 0.0, 0.0) == pytest.approx(20)
    course.campaign.tasks[LESSON].parameters["budget"] = "full"
    assert course.seconds_left(LESSON, 0, 0.0, 0.0) is None


def test_within_a_long_cell_the_time_left_goes_down():
    found = Measured(1000.0, [0, 0.1, 0.9])
    left = [seconds_left(found, 2, 100 + seconds, seconds) for seconds in (0, 400, 790, 5000)]
    assert left == [pytest.approx(900), pytest.approx(500), pytest.approx(110), pytest.approx(100)]


def test_every_lesson_has_a_time_from_the_start():
    for lesson in find():
        for budget in ("quick", "standard"):
            assert measured(lesson.name, budget), lesson.name


def test_lines_tell_the_start_now_and_then_and_the_end(course, running, monkeypatch):
    console, states = Console(file=io.StringIO(), width=100), course.campaign.states
    with live_view(console, course.table, course.lines) as watch:
        watch()
        states[LESSON] = running(0)
        watch()
        states[LESSON] = running(20, 6)
        watch()
        monkeypatch.setattr(module, "PLAIN_EVERY", 0.0)
        watch()
        states[LESSON] = State("crashed", None, Outcome("crashed", 12.0))
        watch()
        watch()
    assert console.file.getvalue().splitlines() == [
        "08_lora_pytorch: running (about 3 min left)",
        "08_lora_pytorch: running (cell 6 of 10, about 2 min left)",
        "08_lora_pytorch: failed (12 s)",
    ]


def test_a_terminal_gets_a_table(course, running):
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    course.campaign.states[LESSON] = running(20, 6)
    with live_view(console, course.table, course.lines) as watch:
        watch()
    text = console.file.getvalue()
    assert LESSON in text and "6 of 10" in text and "about 2 min left" in text and "waiting" in text
