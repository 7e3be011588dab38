"""Every exercise of every lesson: blank, solved, and with planted mistakes. A new one without its mistakes fails."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path
from textwrap import indent

import pytest

from helpers.checks.registry import hints, names, verdict
from tests.helpers.checks.lesson_code import answer, asked_in, sources
from workbook.editions.cells import read

HERE = Path(__file__).resolve().parent
LESSONS = HERE.parents[2] / "helpers" / "lessons"
EXERCISES = [name for path in sorted(LESSONS.glob("lesson_*/exercises.py")) for name in names(path.parent.name[-2:])]
TABLES = [
    importlib.import_module(f"tests.helpers.checks.mistakes.{path.stem}")
    for path in sorted(HERE.glob("mistakes/lesson_*.py"))
]
MISTAKES = [mistake for table in TABLES for mistake in table.MISTAKES]
RIGHT = {name: right for table in TABLES for name, right in table.RIGHT.items()}
BUGS = ("00", "01", "02", "03", "07", "08")  # the lessons in which the course plants one

each_exercise = pytest.mark.parametrize("name", EXERCISES)
each_lesson = pytest.mark.parametrize("number", sources())


def gaps(exercises, mistakes) -> list[str]:
    """The exercises for which fewer than two different mistakes are planted."""
    said = {(name, words) for name, _, words in mistakes}
    return [name for name in exercises if sum(one == name for one, _ in said) < 2]


def test_every_exercise_has_two_planted_mistakes():
    assert gaps(EXERCISES, MISTAKES) == []
    assert {name for name, _, _ in MISTAKES} | set(RIGHT) == set(EXERCISES)


def test_a_new_exercise_without_its_mistakes_would_be_found():
    one = [*MISTAKES, ("99.1", 3, "a word"), ("99.1", 4, "a word")]
    assert gaps([*EXERCISES, "99.1"], MISTAKES) == gaps([*EXERCISES, "99.1"], one) == ["99.1"]


@each_lesson
def test_a_lesson_asks_exactly_what_the_checks_know(number):
    assert list(asked_in(number)) == names(number)
    assert len(names(number)) in ((1, 2, 3) if number == "00" else (2, 3, 4, 5, 6))


@each_lesson
def test_a_lesson_offers_hints_and_ends_with_what_is_solved(number):
    cells = read(sources()[number])
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    for name, one in asked_in(number).items():
        assert any(f'hint("{name}"' in text for text in code), name
        assert one.blank.source != one.solution.source
    assert any(f'solved("{number}")' in text for text in code[-1:])


@pytest.mark.parametrize("number", BUGS)
def test_the_course_plants_a_bug_here(number):
    prose = [cell.source for cell in read(sources()[number]) if cell.cell_type == "markdown"]
    assert any(re.search("find the bug", text, re.IGNORECASE) for text in prose)


@each_exercise
def test_the_blank_is_not_attempted(name):
    for blank in (answer(name, asked_in(name[:2])[name].blank.source), ..., lambda *_: ..., lambda *_: (..., ...)):
        assert verdict(name, blank).state == "not attempted"


@each_exercise
def test_the_solution_of_the_lesson_passes(name):
    found = verdict(name, answer(name, asked_in(name[:2])[name].solution.source))
    assert found.passed, found.text


@each_exercise
def test_another_right_answer_passes(name):
    assert verdict(name, RIGHT[name]).passed, verdict(name, RIGHT[name]).text


@pytest.mark.parametrize(("name", "wrong", "said"), MISTAKES)
@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
def test_a_planted_mistake_is_named(name, wrong, said):
    found = verdict(name, wrong)
    assert found.state == "wrong" and re.search(said, found.text, re.DOTALL | re.IGNORECASE), found.text
    assert "it stopped with" not in found.text.lower()


@each_exercise
@pytest.mark.parametrize("nonsense", [None, 3, "text", lambda: 1, lambda *_: 1 / 0, lambda *_: {}], ids=range(6))
def test_nonsense_is_wrong_and_raises_nothing(name, nonsense):
    found = verdict(name, nonsense)
    assert found.state == "wrong" and len(found.text) > len(f"{name}: not yet. ")


@each_exercise
def test_hints_go_from_a_nudge_to_the_answer(name):
    given = hints(name)
    assert len(given) >= 2 and len(set(given)) == len(given)
    last = indent(given[-1], "    ")
    try:
        ast.parse(f"def answer():\n{last}")
    except SyntaxError:
        return  # told in words
    if "return " in last:
        head = asked_in(name[:2])[name].blank.source.split("    return ...")[0]
        assert verdict(name, answer(name, f"{head}{last}")).passed
