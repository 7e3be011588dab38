"""workbook.run.forecast: the time and the disk that are said before a run starts."""

from __future__ import annotations

import pytest

from helpers.files import write_json
from helpers.record import record
from workbook.engine.ledger import STARTED, Outcome, write_outcome
from workbook.lessons import Lesson
from workbook.run import forecast as module
from workbook.run.forecast import expected, forecast, results_bytes, side_by_side
from workbook.run.plan import FILE, Run
from workbook.run.progress import Measured

SECONDS = {"01_one": 100.0, "02_two": 60.0}


@pytest.fixture
def runs(course, tmp_path, monkeypatch):
    """A maker of runs of two lessons, measured at 100 and 60 seconds on two threads, on a machine of two cores."""
    lessons = [Lesson(course.add(name)) for name in SECONDS]
    monkeypatch.setattr(module, "measured", lambda name, budget: Measured(SECONDS[name], []) if budget else None)
    monkeypatch.setattr(module, "cores", lambda: 2)
    monkeypatch.setattr("workbook.run.plan.cores", lambda: 2)

    def make(name: str, jobs: int = 1, took: dict[str, float] | None = None, **parameters) -> Run:
        given = {lesson.name: dict(parameters) for lesson in lessons}
        run = Run(tmp_path / "runs" / name, lessons, given, jobs)
        write_json(run.folder / FILE, {"lessons": [], "parameters": given, "jobs": jobs})
        for lesson, seconds in (took or {}).items():
            write_json(run.folder / lesson / STARTED, {})
            record(lesson, given[lesson], folder=run.folder / lesson, accuracy_full=0.5)
            write_outcome(run.folder / lesson, Outcome("done", seconds))
        run.campaign.begin()
        return run

    return make


def test_a_first_run_is_estimated_from_the_reference(runs):
    seconds, source = expected(runs("new"))
    assert (seconds, source) == (160.0, "estimated from a two-core machine's times")


def test_side_by_side_each_lesson_has_fewer_threads_and_the_longest_decides(runs):
    assert expected(runs("new", jobs=2))[0] == 200.0


def test_earlier_runs_here_decide(runs):
    runs("1", took={"01_one": 300.0, "02_two": 90.0})
    runs("2", took={"01_one": 50.0}, seed=7)
    assert expected(runs("new")) == (140.0, "as in earlier runs here")


def test_a_lesson_that_never_ran_here_takes_the_pace_of_the_others(runs):
    runs("1", took={"01_one": 50.0})
    assert expected(runs("new")) == (80.0, "at the pace of earlier runs here")


def test_other_parameters_or_threads_say_nothing_and_a_damaged_plan_is_passed_over(runs, tmp_path):
    runs("1", took={"01_one": 1.0, "02_two": 1.0}, budget="quick")
    runs("2", jobs=2, took={"01_one": 1.0, "02_two": 1.0})
    damaged = tmp_path / "runs" / "3" / FILE
    damaged.parent.mkdir()
    damaged.write_text("{")
    assert expected(runs("new"))[0] == 160.0


def test_what_was_never_measured_is_not_guessed(runs):
    run = runs("new", track="real")
    assert expected(run) == (0.0, "")
    assert forecast(run).startswith("The results take about ")


def test_what_is_done_does_not_count_again(runs):
    run = runs("new", took={"01_one": 40.0})
    assert expected(run)[0] == 60.0
    assert results_bytes(run) == module.RESULTS * run.lessons[1].path.stat().st_size


def test_the_sentence(runs):
    said = forecast(runs("new"))
    assert said.startswith("Expected time: about 3 min (estimated from a two-core machine's times). The results take")
    assert said.endswith("are free.")


def test_places_are_filled_as_they_become_free():
    assert side_by_side([3.0, 1.0, 1.0], 2) == 3.0
    assert side_by_side([], 2) == 0.0
