"""Predictions: asked of a person only, read as typed, kept whole, scored once, and never in the way."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
import torch

from helpers import predictions, progress, runtime
from helpers.predictions import asked, calibration, form, predict, reveal
from helpers.questions import Question, as_number
from helpers.runtime import Runtime, UserError
from workbook.editions.cells import from_source
from workbook.lessons import find
from workbook.lessons.kernel import environment

NUMBER = Question("03.1", within=0.03, unit="accuracy", low=0, high=1)
LABELS = Question("03.2", factor=2, unit="labels")
CHOICE = Question("03.3", choices=("reviews", "news"))
ORDER = Question("03.4", order=("head", "LoRA", "all"))


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """The folder of a learner who is at a notebook that has just been opened."""
    monkeypatch.setenv("WORKBOOK_PROGRESS", str(tmp_path / "kept"))
    monkeypatch.setenv("JPY_SESSION_NAME", "notebooks/03.ipynb")
    monkeypatch.delenv("WORKBOOK_RUN_DIR", raising=False)
    restart(monkeypatch)
    return progress.folder() / "predicted"


def restart(monkeypatch) -> None:
    for name, empty in {"_questions": {}, "_answers": {}, "_revealed": set()}.items():
        monkeypatch.setattr(predictions, name, empty)
    monkeypatch.setattr(runtime, "_latest", [])


def fill(question: Question, *answers: object, sure: int = 70) -> str:
    """Answer the widget as a learner does; return what it says."""
    *controls, confidence, button, said = form(question).children
    for control, answer in zip(controls, answers, strict=True):
        control.value = answer
    confidence.value = sure
    button.click()
    return said.value


def ask(question: Question) -> None:
    """What the lesson's `predict` cell does, but for showing the widget."""
    predictions._questions[question.name] = question


@pytest.mark.parametrize(
    ("question", "answers", "kept", "said"),
    [
        (NUMBER, ["0.8"], 0.8, "0.8 accuracy"),
        (LABELS, ["1,200"], 1200.0, "1,200 labels"),
        (CHOICE, ["news"], "news", "news"),
        (ORDER, ["LoRA", "head", "all"], ["LoRA", "head", "all"], "LoRA &gt; head &gt; all"),
    ],
    ids=["number", "large number", "choice", "order"],
)
def test_the_widget_keeps_an_answer_and_its_confidence(place, question, answers, kept, said):
    sentence = fill(question, *answers, sure=90)
    assert (
        sentence == f"You predicted {said}, 90 % sure. You can change it until you run the cell that shows the result."
    )
    fact = json.loads((place / f"{question.name}.json").read_text())
    assert (fact["answer"], fact["confidence"]) == (kept, 90.0) and fact["when"].startswith("20")


@pytest.mark.parametrize(
    ("question", "answers", "sentence"),
    [
        (NUMBER, ["eighty"], '"eighty" is not a number: type digits, such as 0.8 or 1,200.'),
        (NUMBER, [""], '"" is not a number: type digits, such as 0.8 or 1,200.'),
        (NUMBER, ["0,8"], '"0,8" is not a number: type digits, such as 0.8 or 1,200.'),
        (NUMBER, ["80"], "80 is out of range: 03.1 asks for a number from 0 to 1."),
        (NUMBER, ["inf"], '"inf" is not a number: type digits, such as 0.8 or 1,200.'),
        (CHOICE, [None], "Choose one of these: reviews, news."),
        (ORDER, ["LoRA", "LoRA", "all"], "An order names each of these once: head, LoRA, all."),
        (ORDER, ["LoRA", "", "all"], "An order names each of these once: head, LoRA, all."),
    ],
)
def test_what_is_no_answer_gets_one_sentence_and_keeps_nothing(place, question, answers, sentence):
    assert fill(question, *answers).replace("&quot;", '"') == sentence
    assert not place.exists()


def test_a_call_takes_the_answer_where_there_is_no_widget(place, monkeypatch, capsys):
    predict("03.1", within=0.03, answer="80 %", confidence=60)
    assert capsys.readouterr().out.startswith("You predicted 0.8, 60 % sure.")
    predict("03.1", within=0.03, answer=0.8, confidence=130)
    assert capsys.readouterr().out == "confidence is 130, but it has to be a number from 0 to 100.\n"
    predict("03.3", choices=CHOICE.choices, answer="new")
    assert capsys.readouterr().out == 'Choose one of these: reviews, news. Did you mean "news"?\n'
    monkeypatch.delenv("JPY_SESSION_NAME")
    monkeypatch.setattr(sys, "stdin", type("Terminal", (), {"isatty": lambda self: True})())
    predict("03.1", within=0.03)
    assert "answer=..., confidence=70" in capsys.readouterr().out
    assert list(progress.kept("predicted")) == ["03.1"]


def test_at_a_notebook_the_call_shows_the_widget(place, monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    predict("03.1", within=0.03, unit="accuracy")
    (*_, said) = shown[0].children
    assert said.value == "Prediction 03.1. A number counts as right within 0.03 of the result."


@pytest.mark.parametrize(
    ("question", "answers", "value", "score"),
    [
        (NUMBER, ["0.8"], 0.829, "Right."),
        (NUMBER, ["0.8"], 0.84, "Not right: too low, not within 0.03."),
        (LABELS, ["100"], 200, "Right."),
        (LABELS, ["100"], 40, "Not right: too high, not within a factor of 2."),
        (CHOICE, ["news"], "news", "Right."),
        (CHOICE, ["news"], "reviews", "Not right: another one."),
        (ORDER, ["head", "LoRA", "all"], ("head", "LoRA", "all"), "Right."),
        (ORDER, ["head", "LoRA", "all"], ["LoRA", "head", "all"], "Not right: 2 of 3 pairs in the right order."),
        (ORDER, ["head", "LoRA", "all"], ["LoRA", "head"], "Not right: 0 of 1 pairs in the right order."),
    ],
)
def test_a_prediction_is_scored_against_the_run(place, capsys, question, answers, value, score):
    ask(question)
    fill(question, *answers, sure=50)
    reveal(question.name, value)
    first, last = capsys.readouterr().out.splitlines()
    assert first == f"{question.name}: this run gives {question.say(value)}."
    assert last.endswith(f"50 % sure. {score}")
    assert progress.kept("predicted")[question.name]["right"] == (score == "Right.")
    assert calibration() == [(50.0, score == "Right.")]


def test_a_result_of_the_reference_is_not_called_the_runs(place, capsys):
    ask(NUMBER)
    reveal(NUMBER.name, 0.9, source="the reference")
    assert capsys.readouterr().out.startswith(f"{NUMBER.name}: the reference gives 0.9")


def test_the_references_seeds_stand_beside_the_run(place, capsys):
    ask(NUMBER)
    fill(NUMBER, "0.8", sure=90)
    reveal("03.1", torch.tensor(0.9), reference=[0.81, 0.85, 0.79])
    assert capsys.readouterr().out.splitlines()[1:] == [
        "Reference, 3 seeds: 0.79 to 0.85 accuracy.",
        "You predicted 0.8 accuracy, 90 % sure. Not right: too low, not within 0.03. It holds for 2 of the "
        "reference's 3 seeds. You were sure: set your reason beside the explanation below.",
    ]
    ask(CHOICE)
    reveal("03.3", "news", reference=["news", "news", "reviews"])
    assert "Reference: news in 2 of 3 seeds; reviews in 1 of 3 seeds." in capsys.readouterr().out


def test_a_recorded_metric_is_looked_up_by_its_lesson(place, capsys):
    reveal("00.1", 0.03, reference="half_width_300_rows")
    assert "Reference, 5 seeds: 0.03411 to 0.03411." in capsys.readouterr().out
    reveal("00.1", 0.03, reference="no_such_metric")
    assert "Reference" not in capsys.readouterr().out


def test_only_the_first_answer_is_scored_and_none_after_its_result(place, monkeypatch, capsys):
    ask(NUMBER)
    fill(NUMBER, "0.8")
    fill(NUMBER, "0.7")
    reveal("03.1", 0.9)
    assert "That answer was scored, and the first one counts." in fill(NUMBER, "0.9")
    restart(monkeypatch)
    ask(NUMBER)
    assert "the first one counts" in fill(NUMBER, "0.9")
    reveal("03.1", 0.7)  # another seed: said, but the first score stays
    assert "You predicted 0.7 accuracy, 70 % sure. Right." in capsys.readouterr().out
    assert progress.kept("predicted")["03.1"]["right"] is False
    ask(LABELS)
    reveal("03.2", 100)
    assert fill(LABELS, "100") == "The result of 03.2 is shown already, so a prediction no longer counts."


@pytest.mark.parametrize(("budget", "track"), [("quick", "pocket"), ("standard", "hub")])
def test_a_run_that_means_nothing_or_another_track_is_not_set_beside_the_reference(
    place, monkeypatch, capsys, budget, track
):
    ask(NUMBER)
    fill(NUMBER, "0.8")
    monkeypatch.setattr(runtime, "_latest", [Runtime(track, budget, 0, "cpu", 1)])
    reveal("03.1", 0.8, reference=[0.8] * 5)
    said = capsys.readouterr().out
    assert "Reference" not in said and ("too short to score" in said) == (budget == "quick")
    assert ("right" in progress.kept("predicted")["03.1"]) == (budget != "quick")


@pytest.mark.parametrize("value", [None, math.nan, torch.zeros(2), [1, 2]])
def test_a_result_that_is_none_blocks_nothing(place, capsys, value):
    ask(CHOICE if value == [1, 2] else NUMBER)
    reveal("03.3" if value == [1, 2] else "03.1", value)
    assert capsys.readouterr().out


def test_who_skips_goes_on(place, monkeypatch, capsys):
    reveal("03.1", 0.8, reference=[0.7, 0.8])
    reveal("03.3", "news")
    reveal("03.4", ["LoRA", "head"])
    said = capsys.readouterr().out
    assert "You predicted" not in said and "news" in said and "LoRA > head" in said
    assert calibration() == [] and not place.exists()


def garbage(file):
    file.write_bytes(b"\xff\xfe{")


def cut_short(file):
    file.write_text('{"when": "2026-01-01T00:00:00+00:00", "ans')


def another_version(file):
    file.write_text('{"when": "2026-01-01T00:00:00+00:00", "guess": 0.4}')


def a_folder(file):
    file.mkdir()


@pytest.mark.parametrize("damage", [garbage, cut_short, another_version, a_folder])
def test_a_damaged_file_breaks_nothing_and_is_not_lost(place, damage, capsys):
    fill(LABELS, "100")
    damaged = place / "03.1.json"
    damage(damaged)
    before = damaged.read_bytes() if damaged.is_file() else None
    ask(NUMBER)
    assert "You predicted 0.8" in fill(NUMBER, "0.8")
    reveal("03.1", 0.8)
    assert "Right." in capsys.readouterr().out
    assert set(progress.kept("predicted")) == {"03.1", "03.2"}
    (aside,) = place.glob("03.1.damaged-*")
    assert before is None or aside.read_bytes() == before


@pytest.mark.parametrize(
    "more", [{"answer": "eighty"}, {"answer": None}, {"confidence": "much"}, {"confidence": []}, {"answer": [1]}]
)
def test_a_kept_answer_that_does_not_fit_is_as_none(place, more, capsys):
    place.mkdir(parents=True)
    fact = {"when": "2026-01-01T00:00:00+00:00", "answer": 0.8, "confidence": 70, "right": True, **more}
    (place / "03.1.json").write_text(json.dumps(fact))
    ask(NUMBER)
    reveal("03.1", 0.8)
    assert "You predicted" not in capsys.readouterr().out
    assert form(NUMBER).children[-1].value.startswith("Prediction 03.1.")


def test_where_nothing_can_be_kept_the_session_remembers(place, monkeypatch, capsys):
    monkeypatch.setenv("WORKBOOK_PROGRESS", "off")
    monkeypatch.delenv("PYTEST_VERSION", raising=False)
    ask(NUMBER)
    fill(NUMBER, "0.8")
    reveal("03.1", 0.8)
    assert "Right." in capsys.readouterr().out and calibration() == [(70.0, True)] and not place.exists()


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"JPY_SESSION_NAME": "1", "CI": "true"},
        {"JPY_SESSION_NAME": "1", "PYTEST_VERSION": "9"},
        {"JPY_SESSION_NAME": "1", "WORKBOOK_PROGRESS": "kept", "WORKBOOK_RUN_DIR": "runs"},
        {"WORKBOOK_PROGRESS": "kept"},
        environment(threads=1, run_folder=Path("runs")),
    ],
    ids=["no notebook", "CI", "tests", "a run", "papermill of somebody who names a folder", "builds and sweeps"],
)
def test_a_run_that_no_person_looks_at_is_not_asked(environ):
    assert not asked(environ)


RUN = """
from helpers.predictions import predict, reveal, calibration
predict("03.1", within=0.03)
predict("03.3", choices=["reviews", "news"], answer="news")
reveal("03.1", 0.8, reference=[0.8, 0.9])
reveal("03.3", "news")
print(calibration())
"""


def test_a_command_says_the_same_with_and_without_kept_predictions(place, tmp_path):
    def said(**more):
        clean = {name: value for name, value in os.environ.items() if name not in ("CI", "JPY_SESSION_NAME")}
        command = [sys.executable, "-c", RUN]
        options = {"capture_output": True, "text": True, "check": True, "stdin": subprocess.DEVNULL}
        return subprocess.run(command, env={**clean, **more}, **options).stdout

    without = said(WORKBOOK_RUN_DIR=str(tmp_path))
    fill(NUMBER, "0.8")
    assert without == said(WORKBOOK_RUN_DIR=str(tmp_path)) == said(CI="true")
    assert "You predicted" not in without and without.endswith("[]\n")
    assert "You predicted" in said(JPY_SESSION_NAME="1")  # else this test could not fail


@pytest.mark.parametrize(
    ("typed", "number"),
    [
        *[("0.8", 0.8), (" 80 % ", 0.8), ("1,200", 1200), ("-3", -3), ("1e-3", 0.001), (".5", 0.5), (True, None)],
        *[
            (numpy.float32(0.5), 0.5),
            (torch.tensor([2.0]), 2.0),
            ("12,00", None),
            (".", None),
            ("nan", None),
            ("", None),
        ],
    ],
)
def test_numbers_are_read_as_they_are_typed(typed, number):
    assert as_number(typed) == number


def test_an_author_who_forgets_the_rule_is_told():
    for wrong in ({}, {"within": 1, "factor": 2}, {"within": 1, "choices": ["a"]}):
        with pytest.raises(ValueError, match="one of within, factor, choices and order"):
            predict("03.1", **wrong)
    with pytest.raises(ValueError, match="a name like 02.1"):
        predict("3", within=1)


CALL = re.compile(r"^ *(predict|reveal)\(\s*\"(\d\d\.\d+)\"", re.MULTILINE)


def misplaced(lesson: str, cells: list[str]) -> list[str]:
    """What is wrong with a lesson's predictions: each is asked once, and answered in a later cell."""
    calls = [(place, *found) for place, cell in enumerate(cells) for found in CALL.findall(cell)]
    asked_at = {name: place for place, verb, name in calls if verb == "predict"}
    answered = {name: place for place, verb, name in calls if verb == "reveal"}
    wrong = [f"{name} is of another lesson" for name in asked_at if not name.startswith(lesson)]
    wrong += [f"{name} is asked twice" for name in asked_at if sum(call[1:] == ("predict", name) for call in calls) > 1]
    wrong += [f"{name} is never answered" for name, place in asked_at.items() if answered.get(name, -1) <= place]
    return wrong + [f"{name} was not asked" for name in answered if name not in asked_at]


@pytest.mark.parametrize("lesson", find(), ids=lambda lesson: lesson.number)
def test_every_prediction_of_a_lesson_is_answered(lesson):
    cells = [cell.source for cell in from_source(lesson.source).cells if cell.cell_type == "code"]
    assert misplaced(lesson.number, cells) == []


def test_a_prediction_without_its_answer_is_noticed():
    asks, answers = 'predict("03.1", within=1)', 'reveal("03.1", 1)'
    assert misplaced("03", [asks, answers]) == []
    assert misplaced("03", [asks + "\n" + answers]) == misplaced("03", [asks]) == ["03.1 is never answered"]
    assert misplaced("03", [asks, asks, answers]) == ["03.1 is asked twice"]
    assert misplaced("02", [asks, answers]) == ["03.1 is of another lesson"]
    assert misplaced("03", [answers]) == ["03.1 was not asked"]


def test_the_rule_is_said_in_one_sentence():
    with pytest.raises(UserError, match="a number of at least 0"):
        Question("03.1", within=1, low=0).read(-1)
