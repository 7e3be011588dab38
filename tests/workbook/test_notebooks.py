"""workbook.notebooks: from the text twin to the executed notebook, the same bytes each time."""

from __future__ import annotations

import nbformat
import pytest

from helpers.runtime import UserError
from workbook.lessons import Lesson
from workbook.notebooks import WIDGET_TEXT, build, from_source, reword, stale

SOURCE = """\
# ---
# jupyter:
#   kernelspec: {display_name: other, name: other}
# ---
# %% [markdown]
# # Does it build?

# %% tags=["parameters"]
seed = 0  # of chance

# %% tags=["exercise"]
answer = ...

# %% tags=["solution"]
answer = 42

# %%
import sys
print("out"); print("noise", file=sys.stderr)
answer

# %%
import ipywidgets
ipywidgets.IntSlider()

# %%
print("out")
"""


@pytest.fixture
def lesson(tmp_path) -> Lesson:
    made = Lesson(tmp_path / "notebooks" / "00_tiny.ipynb")
    made.source.parent.mkdir(parents=True)
    made.source.write_text(SOURCE)
    return made


def test_exercises_are_blank_and_the_instructor_has_the_solutions(lesson):
    learner, instructor = from_source(lesson.source), from_source(lesson.source, solutions=True)
    assert "answer = 42" not in [cell.source for cell in learner.cells]
    assert len(instructor.cells) == len(learner.cells) + 1
    assert [cell.metadata.get("tags") for cell in learner.cells[:3]] == [None, ["parameters"], ["exercise"]]


def test_identifiers_depend_on_content_alone(lesson):
    first = [cell.id for cell in from_source(lesson.source).cells]
    lesson.source.write_text(SOURCE.replace("# # Does", "# New at the top.\n\n# %% [markdown]\n# # Does"))
    second = [cell.id for cell in from_source(lesson.source).cells]
    assert second[1:] == first and len(set(second)) == len(second)


@pytest.mark.slow
def test_two_builds_give_the_same_clean_bytes(lesson):
    assert build(lesson) == ""
    first = lesson.path.read_bytes()
    assert build(lesson) == ""
    assert lesson.path.read_bytes() == first
    notebook = nbformat.read(lesson.path, as_version=4)
    assert notebook.metadata.kernelspec.name == "python3" and "version" not in notebook.metadata.language_info
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert "noise" not in str(outputs) and WIDGET_TEXT in str(outputs)
    assert b"widget-view" not in first and b'execution"' not in first and b"start_time" not in first
    assert stale(lesson) == ""


@pytest.mark.slow
def test_a_failing_cell_is_named_and_the_old_notebook_stays(lesson):
    assert build(lesson) == ""
    before = lesson.path.read_bytes()
    lesson.source.write_text(SOURCE + "\n# %%\n1 / 0\n")
    assert "cell 7 of 7 fails with ZeroDivisionError: division by zero" in build(lesson)
    assert lesson.path.read_bytes() == before


def test_a_missing_source_is_said(lesson):
    lesson.source.unlink()
    with pytest.raises(UserError, match=r"00_tiny\.py is missing"):
        from_source(lesson.source)


def test_a_notebook_that_was_never_built_or_run_is_stale(lesson):
    assert stale(lesson) == "is not built yet"
    nbformat.write(from_source(lesson.source), lesson.path)
    assert stale(lesson) == "has cells that were not executed"


def test_new_prose_keeps_the_outputs_and_new_code_does_not(lesson):
    assert "not built" in reword(lesson)
    assert build(lesson) == ""
    outputs = [cell.outputs for cell in nbformat.read(lesson.path, 4).cells if cell.cell_type == "code"]
    lesson.source.write_text(SOURCE.replace("# # Does it build?", "# # Does it read better?"))
    assert stale(lesson) and reword(lesson) == "" and stale(lesson) == ""
    assert [cell.outputs for cell in nbformat.read(lesson.path, 4).cells if cell.cell_type == "code"] == outputs
    lesson.source.write_text(SOURCE.replace("seed = 0", "seed = 1"))
    assert "code that changed" in reword(lesson)
