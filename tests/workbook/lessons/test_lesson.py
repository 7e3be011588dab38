"""workbook.lessons.lesson: what is there, and what was asked for."""

from __future__ import annotations

import pytest

from helpers.runtime import UserError
from workbook.lessons import find, select


@pytest.fixture
def lessons(course):
    for name in ("00_start_here", "01_pretrained_transformers", "02_full_vs_last_layer"):
        course.add(name)
    (course.folder / "scratch.ipynb").write_text("{}")
    return find(course.folder)


def test_lessons_come_in_order_and_scratch_files_do_not_count(lessons):
    assert [lesson.number for lesson in lessons] == ["00", "01", "02"]
    assert lessons[1].title == "Is 01_pretrained_transformers well?"


@pytest.mark.parametrize("word", ["1", "01", "01_pretrained_transformers", "01_pretrained_transformers.ipynb"])
def test_a_lesson_is_named_by_number_or_name(lessons, word):
    assert [lesson.number for lesson in select([word], lessons)] == ["01"]


def test_nothing_named_means_all_and_order_is_the_courses(lessons):
    assert select([], lessons) == lessons
    assert [lesson.number for lesson in select(["2", "0"], lessons)] == ["00", "02"]


def test_an_unknown_lesson_is_refused_with_what_there_is(lessons):
    with pytest.raises(UserError, match=r'no lesson "14"; there are 00, 01, 02'):
        select(["14"], lessons)
    with pytest.raises(UserError, match='Did you mean "02_full_vs_last_layer"'):
        select(["02_full_vs_last_layers"], lessons)


def test_an_empty_folder_and_a_broken_notebook_are_said(tmp_path, course):
    with pytest.raises(UserError, match="no lesson here"):
        select([], find(tmp_path))
    (course.folder / "03_broken.ipynb").write_text("not json")
    with pytest.raises(UserError, match="03_broken.ipynb is not a notebook"):
        _ = find(course.folder)[0].cells
