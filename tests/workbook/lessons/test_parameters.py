"""workbook.lessons.parameters: every value is checked before anything runs."""

from __future__ import annotations

import nbformat
import pytest

from helpers.runtime import UserError
from workbook.lessons import find
from workbook.lessons.parameters import declared, parse, resolve


@pytest.fixture
def lessons(course):
    course.add("00_start_here")
    path = course.add("02_full_vs_last_layer")
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[1].source += "\nlabels = 2000  # training rows\nranks = [1, 2]  # to sweep"
    nbformat.write(notebook, path)
    return find(course.folder)


def test_defaults_are_read_from_the_cell(lessons):
    assert declared(lessons[0]) == {"track": "pocket", "budget": "quick", "seed": 0, "rate": 0.1}


def test_a_value_goes_to_the_lessons_that_declare_it(lessons):
    values = resolve(lessons, [("labels", "500"), ("seed", "3")])
    assert values == {"00_start_here": {"seed": 3}, "02_full_vs_last_layer": {"labels": 500, "seed": 3}}


def test_an_unknown_parameter_is_refused_with_the_nearest(lessons):
    with pytest.raises(UserError, match='no parameter "lables" in any of these lessons. Did you mean "labels"'):
        resolve(lessons, [("lables", "500")])
    with pytest.raises(UserError, match='"labels" in 00_start_here'):
        resolve(lessons[:1], [("labels", "500")])


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("budget", "quik", 'Did you mean "quick"'),
        ("track", "poket", 'Did you mean "pocket"'),
        ("seed", "1.5", "whole number"),
        ("seed", "True", "whole number"),
        ("seed", "__import__('os')", "whole number"),
        ("rate", "nan", "a number"),
        ("rate", "1e999", "a number"),
        ("ranks", "(1, 2)", "a list"),
        ("ranks", "[1, 'x']", "a list"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(lessons, name, text, said):
    with pytest.raises(UserError, match=said) as refused:
        resolve(lessons, [(name, text)])
    assert name in str(refused.value)


@pytest.mark.parametrize(
    ("text", "default", "value"),
    [("2", 0.5, 2.0), ("[4, 8]", [1], [4, 8]), ("false", True, False), ("1; import os", "x", "1; import os")],
)
def test_a_value_takes_the_type_of_the_default(text, default, value):
    assert parse("anything", text, default) == value
    assert type(parse("anything", text, default)) is type(default)


@pytest.mark.parametrize("source", ["seed = 1 + int('2')", "import os", "a = b = 1\nprint(a)"])
def test_a_parameters_cell_holds_literals_only(course, source):
    path = course.add("00_start_here")
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[1].source = source
    nbformat.write(notebook, path)
    with pytest.raises(UserError, match="may only hold lines like"):
        declared(find(course.folder)[0])


def test_a_lesson_needs_exactly_one_parameters_cell(course):
    path = course.add("00_start_here")
    notebook = nbformat.read(path, as_version=4)
    del notebook.cells[1]
    nbformat.write(notebook, path)
    with pytest.raises(UserError, match="has 0 cells tagged"):
        declared(find(course.folder)[0])
