"""The editions of the course as `make editions` writes them: nothing of a solution reaches the learner."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import nbformat
import pytest
from click.testing import CliRunner

from helpers.checks.registry import names
from workbook.editions.cells import has, hidden, read
from workbook.editions.command import EDITIONS, main
from workbook.editions.exercises import find_exercises
from workbook.editions.nbgrader import BEGIN, END
from workbook.lessons import Lesson, find
from workbook.notebooks import from_source

LESSONS = find()
KEYS = {"grade_id", "schema_version", "grade", "solution", "locked", "task"}
each_lesson = pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.name)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """All editions of all lessons, written by the command."""
    into = tmp_path_factory.mktemp("editions")
    result = CliRunner().invoke(main, ["--into", str(into)])
    assert result.exit_code == 0, result.output
    return into


def written(folder: Path, edition: str, lesson: Lesson) -> list:
    parts = ("source", lesson.name) if edition == "nbgrader" else ()
    return nbformat.read(folder.joinpath(edition, *parts, lesson.path.name), as_version=4).cells


def bodies(code: str) -> set[str]:
    """What the functions do and the values are that a cell defines, whatever they are called."""
    found = set()
    for node in ast.parse(code).body:
        if isinstance(node, ast.FunctionDef):
            start = 1 if ast.get_docstring(node) else 0
            found.add("\n".join(ast.unparse(part) for part in node.body[start:]))
        elif isinstance(node, ast.Assign):
            found.add(ast.unparse(node))
    return found


@each_lesson
def test_no_solution_and_no_output_is_in_the_learners(lesson, folder):
    cells = written(folder, "learner", lesson)
    told = [cell.source for cell in cells]
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    assert not any(hidden(cell) for cell in cells)
    assert all(cell.outputs == [] and cell.execution_count is None for cell in cells if cell.cell_type == "code")
    source = read(lesson.source)
    elsewhere = {line.strip() for cell in source if not hidden(cell) for line in cell.source.splitlines()}
    for one in find_exercises(source):
        assert one.solution.source not in told and one.blank.source in told
        assert not bodies(one.solution.source) & bodies(code), one.name
        secret = {line.strip() for line in one.solution.source.splitlines()} - elsewhere
        assert not secret & {line.strip() for text in told for line in text.splitlines()}, one.name
        long = [line for line in secret if len(line) > 40]  # a short one may be part of another line by chance
        assert not [line for line in long for text in told if line in text], one.name


@each_lesson
def test_the_instructors_has_every_solution_with_its_hints(lesson, folder):
    cells = written(folder, "instructor", lesson)
    assert [cell.source for cell in cells if has(cell, "solution")] == [
        one.solution.source for one in find_exercises(read(lesson.source))
    ]
    notes = [cell.source for cell in cells if has(cell, "instructor")]
    assert all(any(note.startswith(f"**{name}, for") for note in notes) for name in names(lesson.number))
    assert all(cell.outputs == [] for cell in cells if cell.cell_type == "code")


@each_lesson
def test_nbgraders_metadata_is_whole(lesson, folder):
    cells = [cell for cell in written(folder, "nbgrader", lesson) if "nbgrader" in cell.metadata]
    expected = [f"{kind}-{name.replace('.', '-')}" for name in names(lesson.number) for kind in ("answer", "test")]
    assert [cell.metadata.nbgrader.grade_id for cell in cells] == expected
    for cell in cells:
        given = dict(cell.metadata.nbgrader)
        graded = given["grade_id"].startswith("test-")
        assert set(given) == (KEYS | {"points"} if graded else KEYS) and given["schema_version"] == 3
        assert (given["grade"], given["locked"], given["solution"]) == (graded, graded, not graded)
        assert [cell.source.count(mark) for mark in (BEGIN, END)] == ([0, 0] if graded else [1, 1])
        assert not graded or (given["points"] == 1 and "assert_solved(" in cell.source)


@each_lesson
def test_nothing_of_a_solution_is_left_when_nbgrader_took_out_what_is_marked(lesson, folder):
    kept = [
        re.sub(f"[^\n]*{BEGIN}.*?{END}\n", "", cell.source, flags=re.DOTALL)
        for cell in written(folder, "nbgrader", lesson)
        if not cell.metadata.get("nbgrader", {}).get("grade")
    ]
    assert kept == [cell.source for cell in from_source(lesson.source).cells]


@pytest.mark.parametrize("edition", EDITIONS)
def test_one_edition_of_one_lesson(edition, tmp_path):
    result = CliRunner().invoke(main, ["00", "--only", edition, "--into", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert [path.stem for path in tmp_path.rglob("*.ipynb")] == ["00_start_here"]
    assert [path.name for path in tmp_path.iterdir()] == [edition]


def test_an_instructors_own_settings_stay(tmp_path):
    command = ["00", "--only", "nbgrader", "--into", str(tmp_path)]
    CliRunner().invoke(main, command)
    settings = tmp_path / "nbgrader" / "nbgrader_config.py"
    ast.parse(settings.read_text())
    settings.write_text("# mine\n")
    CliRunner().invoke(main, command)
    assert settings.read_text() == "# mine\n" and (tmp_path / "nbgrader" / "README.md").is_file()


def test_what_is_not_there_is_said(tmp_path):
    unknown = CliRunner().invoke(main, ["77", "--into", str(tmp_path)])
    assert unknown.exit_code and 'no lesson "77"' in unknown.output
    (tmp_path / "learner").write_text("")
    blocked = CliRunner().invoke(main, ["00", "--into", str(tmp_path)])
    assert blocked.exit_code and "could not be written" in blocked.output


def test_help_names_the_editions():
    said = CliRunner().invoke(main, ["--help"]).output
    assert all(edition in said for edition in EDITIONS)


def test_a_leak_would_be_found():
    secret = "def mended(a):\n    return 2 * a\n\n\nrate = 1 / 3\n"
    assert bodies(secret) & bodies('def other(a):\n    """A copy."""\n    return 2*a\n')
    assert bodies(secret) & bodies("rate = 1/3") and not bodies(secret) & bodies("rate = ...\nprint(2)")
