"""workbook.run.report: figures as a person reads them, and an index of everything."""

from __future__ import annotations

import pytest

from workbook.engine.ledger import Outcome, State
from workbook.lessons import Lesson
from workbook.lessons.layout import number_text
from workbook.run.plan import Run
from workbook.run.report import closing_lines, main_figures, write_index


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("accuracy_full", 0.91234, "0.912"),
        ("seconds_full", 12.34, "12.3 s"),
        ("peak_memory_bytes_full", 1_234_567_890, "1,234.6 MB"),
        ("trainable_parameters_full", 1_234_567, "1,234,567"),
        ("holds_full", True, "yes"),
    ],
)
def test_a_figure_has_its_unit(name, value, said):
    assert number_text(name, value) == said


@pytest.fixture
def run(course, tmp_path) -> Run:
    outcomes = [
        Outcome(
            "done", 3.0, metrics={"losses": [1, 2], **{f"accuracy_{n}": 0.5 for n in "abcdefgh"}}, notes=["Stuck."]
        ),
        Outcome("failed", 1.0, 4, "ValueError: <b> & so on"),
        None,
    ]
    lessons = [Lesson(course.add(f"0{number}_tiny")) for number in range(3)]
    made = Run(tmp_path / "run", lessons, {lesson.name: {} for lesson in lessons}, 1)
    for lesson, outcome in zip(lessons, outcomes, strict=True):
        made.campaign.states[lesson.name] = State(outcome.status if outcome else "queued", None, outcome)
    return made


def test_the_main_figures_are_the_first_single_numbers(run):
    found = main_figures(run.campaign.states["00_tiny"].outcome)
    assert [name for name, _ in found] == [f"accuracy {n}" for n in "abcdef"]


def test_the_index_shows_every_lesson_and_escapes_errors(run):
    text = write_index(run).read_text()
    assert "ValueError: &lt;b&gt; &amp; so on" in text and "cell [4]" in text
    assert "not run" in text and "Is 00_tiny well?" in text and "<br>Stuck." in text


def test_the_closing_lines_name_cell_and_error(run):
    lines = closing_lines(run)
    assert "    ! Stuck." in lines
    assert "01_tiny: FAILED in cell [4]: ValueError: <b> & so on" in lines
    assert lines[0] == "00_tiny: done in 3 s" and lines[-1] == "02_tiny: not run"
