"""Each layer that guards the notebooks is shown a fault of its kind, and catches it."""

from __future__ import annotations

import subprocess
import sys

import nbformat
import pytest

from workbook.lessons import Lesson
from workbook.notebooks import build, stale

pytestmark = pytest.mark.slow

SOURCE = """\
# %% [markdown]
# # Is a fault caught?

# %% tags=["parameters"]
budget = "standard"  # how much
seed = 0  # of chance

# %% tags=["nbval-check-output"]
shape = (2, 3)
print("shape", shape)

# %%
from helpers.record import record

_ = record("00_tiny", {"seed": seed}, accuracy_full=0.5)
"""


@pytest.fixture
def lesson(tmp_path) -> Lesson:
    made = Lesson(tmp_path / "notebooks" / "00_tiny.ipynb")
    made.source.parent.mkdir(parents=True)
    made.source.write_text(SOURCE)
    assert build(made) == ""
    return made


def papermill_run(lesson: Lesson) -> subprocess.CompletedProcess:
    folders = ["--notebooks", str(lesson.path.parent), "--into", str(lesson.path.parent.parent / "runs")]
    command = [sys.executable, "-m", "workbook.cli", "run", "--budget", "quick", "--seed", "3", *folders]
    return subprocess.run(command, capture_output=True, text=True)


def change(lesson: Lesson, cell: int, **fields) -> None:
    notebook = nbformat.read(lesson.path, as_version=4)
    notebook.cells[cell].update(fields)
    nbformat.write(notebook, lesson.path)


def test_without_a_fault_every_layer_passes(lesson, nbval, tmp_path):
    passed = nbval(lesson.path, tmp_path)
    assert passed.returncode == 0, passed.stdout
    assert papermill_run(lesson).returncode == 0
    assert stale(lesson) == ""


def test_nbval_catches_a_changed_output(lesson, nbval, tmp_path):
    output = nbformat.v4.new_output("stream", name="stdout", text="shape (2, 4)\n")
    change(lesson, 2, outputs=[output])
    failed = nbval(lesson.path, tmp_path)
    assert failed.returncode == 1
    assert "shape (2, 4)" in failed.stdout


def test_nbval_and_papermill_catch_a_broken_cell(lesson, nbval, tmp_path):
    change(lesson, 2, source="shape = (2, 3\n")
    assert nbval(lesson.path, tmp_path).returncode == 1
    failed = papermill_run(lesson)
    assert failed.returncode == 1
    assert "SyntaxError" in failed.stdout


def test_papermill_catches_what_breaks_only_with_another_seed(lesson, nbval, tmp_path):
    change(lesson, 2, source="shape = (2, 3)\nprint('shape', shape)\nassert seed == 0, 'seed'")
    assert nbval(lesson.path, tmp_path).returncode == 0
    assert papermill_run(lesson).returncode == 1


def test_papermill_catches_a_lesson_that_records_nothing(lesson):
    change(lesson, 3, source="import sys; sys.exit(0)")
    failed = papermill_run(lesson)
    assert failed.returncode == 1
    assert "Incomplete" in failed.stdout


def test_the_source_match_catches_a_stale_notebook(lesson):
    lesson.source.write_text(SOURCE.replace("(2, 3)", "(2, 5)"))
    assert stale(lesson) == "differs from its source in cell 3"
    lesson.source.write_text(SOURCE + "\n# %% [markdown]\n# More.\n")
    assert stale(lesson) == "has 4 cells, its source gives 5"
