"""The learner's copy: made once, never overwritten, and brought up to date with their answers in it."""

from __future__ import annotations

import os
import re
from pathlib import Path

import nbformat
import pytest
from click.testing import CliRunner

from helpers.paths import ROOT
from helpers.runtime import UserError
from workbook.cli import main
from workbook.editions import working_copy as module
from workbook.editions.cells import EXERCISE, has
from workbook.editions.working_copy import MARK, exercise_of, working_copy
from workbook.lessons import Lesson, find

SOURCE = """# %% [markdown]
# # Does it hold?

# %% tags=["parameters"]
seed = 0  # of chance

# %%
rate = 0.1

# %% tags=["exercise"]
def double(x):
    return ...


check("07.1", double)

# %% tags=["solution"]
def double(x):
    return 2 * x


check("07.1", double)

# %% tags=["exercise"]
def half(x):
    return ...


check("07.2", half)

# %% tags=["solution"]
def half(x):
    return x / 2


check("07.2", half)
"""
DOUBLE = 'def double(x):\n    return x + x\n\n\ncheck("07.1", double)'
HALF = 'def half(x):\n    return x / 2.0\n\n\ncheck("07.2", half)'


class Learner:
    """Somebody with a copy of one lesson."""

    def __init__(self, folder: Path):
        self.lesson = Lesson(folder / "notebooks" / "07_tiny.ipynb")
        self.lesson.source.parent.mkdir(parents=True)
        self.publish(SOURCE)
        self.place = folder / "mine"
        self.path = self.place / "notebooks" / "07_tiny.ipynb"

    def publish(self, source: str, *changes: tuple[str, str]) -> None:
        """Put a version of the lesson into the course."""
        for old, new in changes:
            assert old in source
            source = source.replace(old, new)
        self.lesson.source.write_text(source, encoding="utf-8")

    def open(self) -> str:
        """Open the copy; return what is said besides the folder."""
        place, said = working_copy(self.place, [self.lesson])
        assert place == self.place and str(self.place) in said[0]
        return "\n".join(said[1:])

    @property
    def notebook(self):
        return nbformat.read(self.path, as_version=4)

    @property
    def sources(self) -> list[str]:
        return [cell.source for cell in self.notebook.cells]

    def write(self, change) -> None:
        """Save the notebook after `change(cells)`, as JupyterLab does."""
        notebook = self.notebook
        change(notebook.cells)
        nbformat.write(notebook, self.path)

    def answer(self, name: str, code: str) -> None:
        def change(cells):
            next(cell for cell in cells if exercise_of(cell) == name).source = code

        self.write(change)

    @property
    def earlier(self) -> list[list[str]]:
        """The sources of the notebooks that were set aside."""
        paths = sorted((self.place / "earlier").glob("*.ipynb"))
        return [[cell.source for cell in nbformat.read(path, as_version=4).cells] for path in paths]


@pytest.fixture
def learner(tmp_path) -> Learner:
    return Learner(tmp_path)


def test_the_first_opening_gives_blank_exercises_without_outputs(learner):
    assert learner.open() == ""
    cells = learner.notebook.cells
    assert [exercise_of(cell) for cell in cells if has(cell, EXERCISE)] == ["07.1", "07.2"]
    assert all(cell.outputs == [] for cell in cells if cell.cell_type == "code")
    assert "2 * x" not in learner.path.read_text()


def test_opening_again_keeps_every_byte(learner):
    learner.open()
    learner.answer("07.1", DOUBLE)
    before = learner.path.read_bytes()
    assert learner.open() == "" and learner.path.read_bytes() == before and learner.earlier == []


def test_a_newer_lesson_takes_the_answers(learner):
    learner.open()
    learner.answer("07.1", DOUBLE)
    learner.answer("07.2", "def half(x):  # not Python (yet\ncheck('07.2', half)")
    mine = learner.sources
    learner.publish(SOURCE, ("# # Does it hold?", "# # Does it hold now?"), ("rate = 0.1", "rate = 0.2"))
    said = learner.open()
    assert said.startswith("07_tiny has a newer version. It has your answers to 07.1, 07.2. Your notebook as it was: ")
    assert learner.sources[0] == "# Does it hold now?" and "rate = 0.2" in learner.sources
    assert DOUBLE in learner.sources and "def half(x):  # not Python (yet\ncheck('07.2', half)" in learner.sources
    assert learner.earlier == [mine]
    assert learner.open() == "" and DOUBLE in learner.sources


def test_cells_of_ones_own_values_and_notes_are_carried_over(learner):
    learner.open()

    def change(cells):
        cells[1].source = "seed = 5  # of chance"
        cells.insert(3, nbformat.v4.new_markdown_cell("my note"))
        cells.append(nbformat.v4.new_code_cell("half(3)", outputs=[nbformat.v4.new_output("stream", text="1.5")]))
        cells.append(nbformat.v4.new_code_cell(""))

    learner.write(change)
    learner.publish(SOURCE, ("# # Does it hold?", "# # Does it hold now?"))
    assert "It has 3 other cells of yours." in learner.open()
    sources = learner.sources
    assert sources[1] == "seed = 5  # of chance" and sources[2:4] == ["rate = 0.1", "my note"]
    assert sources[-1] == "half(3)" and learner.notebook.cells[-1].outputs == []


def test_what_cannot_be_carried_over_is_said_and_kept(learner):
    learner.open()
    learner.answer("07.1", DOUBLE)
    learner.answer("07.2", HALF)

    def change(cells):
        cells[1].source = "seed = 5"
        cells[2].source = "rate = 7"

    learner.write(change)
    without_half = SOURCE[: SOURCE.index('# %% tags=["exercise"]\ndef half')]
    changes = [("of chance", "of every draw"), ("rate = 0.1", "rate = 0.2"), ("double(x):", "double(x, times=2):")]
    learner.publish(without_half, *changes)
    said = learner.open()
    assert "The exercise changed in 07.1: your answer stands below it as text." in said
    gone = (
        'your values in the parameters cell; your edit of "rate = 0.1"; your answer to 07.2, an exercise that is gone'
    )
    assert f"Not carried over: {gone}." in said
    cells = learner.notebook.cells
    place = next(place for place, cell in enumerate(cells) if exercise_of(cell) == "07.1")
    assert "times=2" in cells[place].source and cells[place + 1].cell_type == "markdown"
    assert DOUBLE in cells[place + 1].source
    assert HALF in learner.earlier[0] and "rate = 7" in learner.earlier[0]


def test_an_answer_is_found_by_its_exercise_when_the_cell_is_another(learner):
    learner.open()

    def change(cells):
        place = next(place for place, cell in enumerate(cells) if exercise_of(cell) == "07.1")
        cells[place] = nbformat.v4.new_code_cell(DOUBLE)  # cut and pasted: another identifier

    learner.write(change)
    learner.publish(SOURCE, ("rate = 0.1", "rate = 0.2"))
    assert "your answers to 07.1" in learner.open() and learner.sources.count(DOUBLE) == 1


def test_two_newer_versions_in_a_row_keep_the_answers(learner):
    learner.open()
    learner.answer("07.1", DOUBLE)
    learner.publish(SOURCE, ("rate = 0.1", "rate = 0.2"))
    learner.open()
    learner.answer("07.2", HALF)
    learner.publish(SOURCE, ("rate = 0.1", "rate = 0.3"))
    assert "your answers to 07.1, 07.2" in learner.open()
    assert "rate = 0.3" in learner.sources and len(learner.earlier) == 2


def test_an_unedited_lesson_is_replaced_and_said_so(learner):
    learner.open()
    learner.publish(SOURCE, ("rate = 0.1", "rate = 0.2"))
    assert learner.open() == "Newer versions of the lessons you had not edited: 07."
    assert "rate = 0.2" in learner.sources and learner.earlier == []


def test_a_merge_that_was_cut_off_doubles_nothing(learner, monkeypatch):
    learner.open()
    learner.answer("07.1", DOUBLE)
    learner.publish(SOURCE, ("rate = 0.1", "rate = 0.2"))
    whole, written = module.write_notebook, []

    def cut_off(path, notebook):
        written.append(path)
        if len(written) == 2:
            raise UserError("the disk is full")
        return whole(path, notebook)

    monkeypatch.setattr(module, "write_notebook", cut_off)
    assert "was not brought up to date: the disk is full" in learner.open()
    monkeypatch.setattr(module, "write_notebook", whole)
    once = learner.sources
    learner.open()
    assert learner.sources == once and once.count(DOUBLE) == 1


@pytest.mark.parametrize("text", ["", "no notebook", "[]", '{"cells": [{"cell_type": "none"}]}'])
def test_a_damaged_notebook_is_left_as_it_is(learner, text):
    learner.open()
    learner.path.write_text(text)
    learner.publish(SOURCE, ("rate = 0.1", "rate = 0.2"))
    assert "was left as it is, because it cannot be read" in learner.open()
    assert learner.path.read_text() == text


def test_a_notebook_whose_first_form_is_lost_is_left_as_it_is(learner):
    learner.open()
    learner.answer("07.1", DOUBLE)
    (learner.place / MARK / "07_tiny.ipynb").write_text("{")
    before = learner.path.read_bytes()
    assert "was left as it is" in learner.open() and learner.path.read_bytes() == before


def test_a_lesson_that_was_deleted_comes_back(learner):
    learner.open()
    learner.path.unlink()
    assert learner.open() == "" and learner.path.is_file()


def a_file(place, monkeypatch):
    place.write_text("")
    return "cannot be written (file exists)"


def below_a_file(place, monkeypatch):
    place.write_text("")
    monkeypatch.setattr(module, "expanded", lambda folder: folder / "below")
    return "cannot be written (not a directory)"


def somebody_elses(place, monkeypatch):
    place.mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    return "cannot be written (permission denied): choose another folder with --folder."


def a_folder_with_other_things(place, monkeypatch):
    place.mkdir()
    (place / "thesis.tex").touch()
    return "holds other files, such as thesis.tex: choose an empty or a new folder."


@pytest.mark.parametrize("case", [a_file, below_a_file, somebody_elses, a_folder_with_other_things])
def test_a_folder_that_cannot_be_the_copy_is_refused_in_a_sentence(learner, case, monkeypatch):
    sentence = case(learner.place, monkeypatch)
    before = sorted(learner.place.rglob("*")) if learner.place.is_dir() else []
    with pytest.raises(UserError, match=re.escape(sentence)):
        learner.open()
    assert not learner.place.is_dir() or sorted(learner.place.rglob("*")) in (before, [learner.place / MARK])


@pytest.mark.parametrize("folder", [ROOT, ROOT / "notebooks", ROOT / "notebooks" / "mine"])
def test_the_courses_own_folders_are_refused(folder):
    with pytest.raises(UserError, match="holds the course's own notebooks"):
        working_copy(folder)
    assert not (folder / MARK).exists()


def test_the_command_opens_the_copy_and_says_where_it_is(monkeypatch, tmp_path):
    opened = []
    monkeypatch.setattr("workbook.lessons.lab.open_lab", lambda place, options: opened.append((place, options)) or 0)
    result = CliRunner().invoke(main, ["lab", "--folder", str(tmp_path / "mine"), "--no-browser"])
    assert result.exit_code == 0 and str(tmp_path / "mine") in result.output
    assert opened == [(tmp_path / "mine", ("--no-browser",))]
    (tmp_path / "file").touch()
    refused = CliRunner().invoke(main, ["lab", "--folder", str(tmp_path / "file")])
    assert refused.exit_code == 1 and "choose another folder with --folder" in refused.output


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    place, _ = working_copy(tmp_path_factory.mktemp("whole") / "mine")
    return place


LINK = re.compile(r"!?\[[^\]]*\]\((?!https?:|#|mailto:)([^)#\s]+)")


def test_every_link_of_the_copy_leads_to_a_file_in_it(whole):
    files = [*whole.glob("notebooks/*.ipynb"), *whole.glob("docs/*.md")]
    assert len(files) > len(find())
    for file in files:
        text = file.read_text(encoding="utf-8")
        if file.suffix == ".ipynb":
            cells = nbformat.read(file, as_version=4).cells
            text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        missing = [link for link in LINK.findall(text) if not (file.parent / link).exists()]
        assert missing == [], file.name


def test_a_guide_that_the_learner_wrote_into_stays(learner):
    learner.open()
    guide, other = learner.place / "docs" / "glossary.md", learner.place / "docs" / "hub.md"
    guide.write_text("my notes")
    other.write_text("an older version")
    (learner.place / MARK / "docs" / "hub.md").write_text("an older version")
    learner.open()
    assert guide.read_text() == "my notes" and "track" in other.read_text()


def test_the_default_folder_is_not_part_of_the_repository():
    assert "my-lessons/" in (ROOT / ".gitignore").read_text().splitlines()
    assert module.FOLDER == ROOT / "my-lessons"
