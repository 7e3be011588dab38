"""Every lesson of the course: its source, its committed notebook, and its run with another seed."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import nbformat
import pytest

from helpers.recipes import recipe
from tests import verification
from tests.quick_runs import with_another_seed
from workbook.lessons import NOTEBOOKS, Lesson, find
from workbook.lessons.parameters import declared
from workbook.notebooks import from_source, stale

LESSONS = find()
ABSOLUTE = re.compile(r"(?<![\w.:/<])/(?:home|root|work|tmp|Users|usr|opt|var|mnt|private)/|[A-Z]:\\\\")
REMOTE_FIGURE = re.compile(r"!\[[^\]]*\]\(\s*https?:|<img[^>]+src=[\"']?https?:", re.IGNORECASE)
INSTALLS = re.compile(r"^\s*[!%]\s*(?:pip|conda)\b", re.MULTILINE)
ADDRESS = re.compile(r"\b0x[0-9a-f]{8,}")
NOT_PROSE = re.compile(r"```.*?```|\$\$.*?\$\$|<details>.*?</details>|^\s*\|.*$|<[^>]+>", re.DOTALL | re.MULTILINE)

each_lesson = pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.name)


def cells(lesson: Lesson, kind: str) -> list[str]:
    """The texts of the learner's cells of one kind, from the source."""
    return [cell.source for cell in from_source(lesson.source).cells if cell.cell_type == kind]


def outputs(lesson: Lesson) -> list[dict]:
    """All committed outputs; none where the notebook is not built, which another test says."""
    if not lesson.path.is_file():
        return []
    notebook = nbformat.read(lesson.path, as_version=4)
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def test_the_course_has_begun():
    assert {"00", "01", "02"} <= {lesson.number for lesson in LESSONS}


@each_lesson
def test_source_and_notebook_match(lesson):
    assert stale(lesson) == "", "`make notebooks` builds it anew"


@each_lesson
def test_parameters_are_few_literals_each_with_a_comment(lesson):
    source = lesson.tagged("parameters")[0]["source"]
    table = declared(lesson)
    assert list(table)[:3] == ["track", "budget", "seed"]
    assert len(table) <= 10
    for statement in ast.parse(source).body:
        assert "#" in source.splitlines()[statement.lineno - 1], f"{ast.unparse(statement)} has no comment"


@each_lesson
def test_the_lesson_keeps_the_house_style(lesson):
    code, prose = cells(lesson, "code"), cells(lesson, "markdown")
    if lesson.number != "00":
        assert 40 <= len(code) + len(prose) <= 115
    for text in code:
        assert len(text.splitlines()) <= 30, text
    for text in prose:
        assert len(NOT_PROSE.sub(" ", text).split()) <= 90, text
    assert re.match(r"# .*\?$", prose[0].splitlines()[0]), "the title is a question"


def hidden_tables(code: str) -> list[str]:
    """The tables that a cell computes and Jupyter does not show, because another line follows."""
    early = [line for line in ast.parse(code).body[:-1] if isinstance(line, ast.Expr)]
    return [ast.unparse(line) for line in early if ast.unparse(line).startswith("pd.")]


def test_a_table_before_the_last_line_is_found():
    assert hidden_tables("pd.DataFrame(rows)\nprint(1)") == ["pd.DataFrame(rows)"]
    assert not hidden_tables("table = pd.DataFrame(rows)\ndisplay(pd.DataFrame(rows))\npd.DataFrame(rows)")


@each_lesson
def test_every_table_is_shown(lesson):
    assert not [table for text in cells(lesson, "code") for table in hidden_tables(text)]


@each_lesson
def test_nothing_ties_the_lesson_to_a_machine_or_a_network(lesson):
    for text in cells(lesson, "code") + cells(lesson, "markdown"):
        assert not ABSOLUTE.search(text), text
        assert not INSTALLS.search(text), text
        assert not REMOTE_FIGURE.search(text), text
    for output in outputs(lesson):
        text = json.dumps(output)
        assert not ABSOLUTE.search(text) and not ADDRESS.search(text), text[:300]
        assert not re.search(r"<img[^>]+https?:|<script[^>]+src=", text), text[:300]


@each_lesson
def test_every_figure_has_alternative_text(lesson):
    for text in cells(lesson, "markdown"):
        assert not re.search(r"!\[\s*\]\(", text), text
        assert all("alt=" in tag for tag in re.findall(r"<img[^>]*>", text)), text
    for output in outputs(lesson):
        for kind in ("image/png", "image/svg+xml", "image/jpeg"):
            if kind in output.get("data", {}):
                assert output.metadata.get(kind, {}).get("alt", "").strip(), f"a figure of {lesson.name} has no text"


@each_lesson
def test_local_figures_are_there(lesson):
    for text in cells(lesson, "markdown"):
        for target in re.findall(r"!\[[^\]]*\]\(([^)\s]+)|<img[^>]+src=[\"']([^\"']+)", text):
            assert (lesson.path.parent / "".join(target)).is_file(), target


@each_lesson
def test_committed_outputs_are_clean(lesson):
    for output in outputs(lesson):
        assert output.output_type != "error", output
        assert output.get("name") != "stderr", output


@pytest.fixture(scope="session")
def fresh_run(nbval, tmp_path_factory):
    """A lesson's whole committed notebook through nbval, once: the result, and the folder with what it recorded.

    Skips a lesson that passed with this very code, unless it is its turn on this commit.
    """
    anew = verification.to_run(LESSONS, verification.turn_of_commit())

    @cache
    def run(lesson: Lesson) -> tuple[subprocess.CompletedProcess, Path]:
        if lesson not in anew:
            pytest.skip(verification.PASSED.format(lesson.number))
        folder = tmp_path_factory.mktemp(lesson.name)
        return nbval(lesson.path, folder), folder

    return run


@pytest.mark.slow
@each_lesson
def test_nbval_finds_the_committed_outputs(lesson, fresh_run):
    result, _ = fresh_run(lesson)
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-2000:]


@pytest.mark.slow
@each_lesson
def test_a_fresh_run_is_where_the_reference_expects_one_more(lesson, fresh_run):
    reference = verification.reference_of(lesson)
    if reference is None:
        pytest.skip(f"lesson {lesson.number} has no reference over enough seeds")
    _, folder = fresh_run(lesson)
    assert verification.outside_the_reference(reference, folder) == []


@pytest.mark.slow
def test_a_learning_rate_thirty_times_too_high_is_caught(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBOOK_REAL_DIR", str(tmp_path / "none"))  # its section on real text has nothing to say here
    lesson = next(lesson for lesson in LESSONS if lesson.number == "00")
    rate = 30 * recipe("full", "pocket").learning_rate
    command = [sys.executable, "-m", "workbook.cli", "run", "00", "-p", "learning_rate", str(rate)]
    ended = subprocess.run([*command, "--into", str(tmp_path)], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout[-2000:]
    reference = verification.reference_of(lesson)
    assert reference
    found = verification.outside_the_reference(reference, next(tmp_path.glob(f"*/{lesson.name}")))
    assert any(sentence.startswith("accuracy_tuned") for sentence in found), found


@pytest.fixture(scope="module")
def quick_runs(tmp_path_factory):
    """Lessons quick, with another seed and all exercises solved; chosen as in `fresh_run`."""
    anew = verification.to_run(LESSONS, verification.turn_of_commit(), verification.QUICK)
    return anew, with_another_seed(anew, tmp_path_factory.mktemp("quick")) if anew else None


@pytest.mark.slow
@each_lesson
def test_papermill_runs_the_lesson_quick_with_another_seed(lesson, quick_runs):
    anew, made = quick_runs
    if lesson not in anew:
        pytest.skip(verification.PASSED.format(lesson.number))
    assert made.problem(lesson) == ""


@pytest.mark.slow
@each_lesson
def test_its_solutions_solve_every_exercise(lesson, quick_runs):
    anew, made = quick_runs
    if lesson not in anew:
        pytest.skip(verification.PASSED.format(lesson.number))
    assert made.unsolved(lesson) == []


def test_the_readme_links_exactly_the_lessons_that_exist():
    readme = (NOTEBOOKS.parent / "README.md").read_text(encoding="utf-8")
    linked = set(re.findall(r"\(notebooks/(\d\d_[a-z0-9_]+)\.ipynb\)", readme))
    assert linked == {lesson.name for lesson in LESSONS}
