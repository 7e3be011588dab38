"""The editions of a small lesson: who sees what, and that badly formed exercises are refused in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.runtime import UserError
from workbook.editions.cells import from_source, read
from workbook.editions.exercises import find_exercises
from workbook.editions.instructor import instructor, note
from workbook.editions.nbgrader import assignment

HEAD = """\
# %% [markdown]
# # Does it build?

# %% tags=["parameters"]
budget = "standard"  # how much

# %% [markdown] tags=["instructor"]
# Give them ten minutes.

"""
BLANK = '''# %% tags=["exercise"]
def accuracy(predictions, labels):
    """A share."""
    return ...


check("00.1", accuracy)
# hint("00.1")

'''
SOLUTION = '''# %% tags=["solution"]
def accuracy(predictions, labels):
    """A share."""
    # The secret.
    return sum(map(int.__eq__, predictions, labels)) / len(labels)


check("00.1", accuracy)

'''
VALUE = """# %% tags=["exercise"]
rate = ...

check("00.1", rate)

# %% tags=["solution"]
rate = 1 / 3

check("00.1", rate)
"""


@pytest.fixture
def source(tmp_path):
    def written(text: str) -> Path:
        path = tmp_path / "00_tiny.py"
        path.write_text(text)
        return path

    return written


def test_the_learner_sees_neither_solutions_nor_notes(source):
    cells = from_source(source(HEAD + BLANK + SOLUTION)).cells
    assert len(cells) == 3
    assert not any("secret" in cell.source or "ten minutes" in cell.source for cell in cells)


def test_the_instructor_sees_solutions_notes_and_hints(source):
    cells = instructor(source(HEAD + BLANK + SOLUTION)).cells
    assert [cell.metadata.get("tags", [""])[0] for cell in cells] == [
        *("", "parameters", "instructor", "exercise", "solution", "instructor")
    ]
    assert "1. Go through both lists" in cells[-1].source and "3. return sum(" in cells[-1].source
    assert cells[-1].cell_type == "markdown"


def test_a_hint_of_several_lines_is_shown_as_code():
    assert "3. In code:\n\n   ```python\n   found = {}" in note("12.4").source


def test_nbgrader_gets_blank_and_solution_in_one_cell_and_a_test(source):
    cells = {cell.metadata.get("nbgrader", {}).get("grade_id"): cell for cell in graded(source, BLANK + SOLUTION)}
    assert cells["answer-00-1"].source.splitlines()[2:] == [
        "    ### BEGIN SOLUTION",
        "    # The secret.",
        "    return sum(map(int.__eq__, predictions, labels)) / len(labels)",
        "    ### END SOLUTION",
        "    return ...",
        "",
        "",
        'check("00.1", accuracy)',
        '# hint("00.1")',
    ]
    assert cells["test-00-1"].source.endswith('assert_solved("00.1", accuracy)')
    assert cells["test-00-1"].metadata.nbgrader.points == 2.5
    assert cells["budget"].source.endswith('budget = "quick"') and cells["budget"].metadata.nbgrader.locked
    assert not any("ten minutes" in cell.source for cell in cells.values())


def test_a_value_comes_after_its_dots(source):
    cell = next(cell for cell in graded(source, VALUE) if "BEGIN" in cell.source)
    assert cell.source.startswith("rate = ...\n### BEGIN SOLUTION\nrate = 1 / 3\n### END SOLUTION\n\ncheck(")


def graded(source, exercises: str):
    return assignment(source(HEAD + exercises), points=2.5, budget="quick").cells


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BLANK, "00.1 has no cell with its solution"),
        (BLANK + "# %%\n1 + 1\n\n" + SOLUTION, "00.1 has no cell with its solution right after it"),
        (SOLUTION, "solution of 00.1 does not follow its exercise"),
        (BLANK + SOLUTION.replace("00.1", "00.2"), "solution of 00.2 does not follow its exercise"),
        (BLANK + SOLUTION.replace('check("00.1", accuracy)', ""), "has no check"),
        (BLANK.replace("    return ...", "    pass") + SOLUTION, "00.1 has no line with dots"),
        (BLANK + BLANK.replace("exercise", "solution").replace('# hint("00.1")\n', ""), "00.1 has no line with dots"),
    ],
    ids=["no solution", "late", "no exercise", "another", "no check", "no dots", "nothing new"],
)
def test_a_badly_formed_exercise_is_refused_in_words(source, text, said):
    with pytest.raises(UserError, match=said):
        assignment(source(HEAD + text))


def test_a_missing_source_is_said(tmp_path):
    with pytest.raises(UserError, match=r"00_tiny\.py is missing"):
        read(tmp_path / "00_tiny.py")


def test_exercises_are_found_in_their_order(source):
    found = find_exercises(read(source(HEAD + BLANK + SOLUTION)))
    assert [(one.name, one.answer) for one in found] == [("00.1", "accuracy")]
