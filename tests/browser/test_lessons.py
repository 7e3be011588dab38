"""In a real browser: every lesson opens, widgets move, exercises answer, and lesson 00 runs from a fresh kernel."""

from __future__ import annotations

import nbformat
import pytest
from papermill.parameterize import parameterize_notebook

from workbook.lessons import find
from workbook.notebooks import from_source

pytestmark = pytest.mark.slow

LESSONS = {lesson.number: lesson for lesson in find()}
BUILT = [lesson for lesson in LESSONS.values() if lesson.path.is_file()]
WIDGETS = {
    "00": "figures.certainty(",
    "01": "figures.attention_browser(",
    "06": "slider = SelectionSlider(",
    "08": "slider = SelectionSlider(",
}
WRONG = 'def accuracy(predictions, labels):\n    return 1.0\n\n\ncheck("00.1", accuracy)'
RIGHT = """def accuracy(predictions, labels):
    return sum(guess == truth for guess, truth in zip(predictions, labels)) / len(labels)


check("00.1", accuracy)"""


def up_to(number: str, text: str, folder) -> str:
    """Write a lesson's cells up to the one with `text`, on the smallest budget; return the notebook's name."""
    made = from_source(LESSONS[number].source)
    last = next(place for place, cell in enumerate(made.cells) if cell.cell_type == "code" and text in cell.source)
    made.cells = made.cells[: last + 1]
    made.metadata["papermill"] = {}
    for cell in made.cells:
        cell.metadata.setdefault("tags", [])
    made = parameterize_notebook(made, {"budget": "quick"})
    name = f"quick_{number}.ipynb"
    nbformat.write(made, folder / "notebooks" / name)
    return name


def test_the_address_is_lesson_00_and_the_kernel_this_environments(learner, server):
    assert "/lab/tree/notebooks/00_start_here.ipynb" in server
    kernels = learner.page.request.get(f"{learner.root}/api/kernelspecs?{learner.token}").json()
    assert kernels["kernelspecs"]["python3"]["spec"]["display_name"] == "Python 3 (ipykernel)"


@pytest.mark.parametrize("lesson", BUILT, ids=lambda lesson: lesson.number)
def test_a_lesson_opens_without_trouble(learner, lesson):
    learner.open(lesson.path.name)
    assert learner.page.locator(".jp-MarkdownOutput h1").first.inner_text().startswith(lesson.title)
    assert len(learner.executed()) == sum(cell["cell_type"] == "code" for cell in lesson.cells)
    assert learner.trouble() == []


@pytest.mark.parametrize("number", WIDGETS)
def test_the_keyboard_moves_a_slider_and_the_figure_follows(learner, folder, number):
    learner.open(up_to(number, WIDGETS[number], folder))
    learner.run_all()
    assert learner.trouble() == [] and None not in learner.executed()  # a cell that raises keeps the rest from running
    output = learner.cell(WIDGETS[number])
    readout = output.locator(".widget-readout").first
    said = readout.inner_text()
    assert learner.move(output) > 0.001
    assert readout.inner_text() != said and learner.trouble() == []


def test_an_exercise_is_answered_wrongly_and_then_rightly(learner, folder):
    learner.open(up_to("00", '# hint("00.1")', folder))
    learner.run_all()
    cell = learner.cell('check("00.1", accuracy)')
    assert "not attempted" in cell.locator(".jp-OutputArea-output").first.inner_text()
    assert "00.1: not yet." in learner.answer(cell, WRONG)
    said = learner.answer(cell, RIGHT + '\nsolved("00")')
    assert "00.1: right!" in said and "1 of 3 exercises solved" in said
    assert learner.trouble() == []


def test_lesson_00_restarts_and_runs_all(learner, folder):
    learner.open(up_to("00", "record(", folder))
    learner.restart_and_run_all()
    cells = learner.executed()
    assert cells == list(range(1, len(cells) + 1))
    assert learner.trouble() == []
