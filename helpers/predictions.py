"""Predictions: `predict` asks a learner to predict a result, `reveal` compares the prediction with the run's result.

    predict("03.1", within=0.03, unit="accuracy")           a number, right if the result differs by at most 0.03
    predict("03.2", choices=["reviews", "news"])            one of these
    predict("03.3", order=["head", "LoRA", "everything"])   all of these, in order
    reveal("03.1", accuracy, reference="accuracy_full")     scored against this run, and against the reference's seeds

In runs that a command started (builds, sweeps, tests, graders), `predict` shows nothing and `reveal` ignores saved
answers. Answers are saved with the learner's progress. Only the first scored answer counts, because the learner then
knows the result.
"""

from __future__ import annotations

import html
import math
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import ipywidgets as widgets

from helpers import progress, runtime
from helpers.questions import Question, as_number
from helpers.reference import recorded
from helpers.runtime import UserError

CONFIDENCES = (10, 30, 50, 70, 90)
SURE = 70

_questions: dict[str, Question] = {}
_answers: dict[str, dict] = {}  # this session's answers, also if they cannot be saved
_revealed: set[str] = set()
WIDE = {"description_width": "initial"}


def predict(
    name: str,
    *,
    within: float | None = None,
    factor: float | None = None,
    unit: str = "",
    low: float = -math.inf,
    high: float = math.inf,
    choices: Sequence[str] = (),
    order: Sequence[str] = (),
    answer: Any = None,
    confidence: float = 50,
) -> None:
    """Ask for prediction `name` ("03.1") with a widget, or save the `answer` given in the call; never blocks.

    Args:
        within, factor: a number counts as right within this distance, or this factor, of the result.
        low, high: the bounds of a valid number.
        confidence: the learner's probability, in per cent, that the answer is right.
    """
    if sum(map(bool, (within, factor, choices, order))) != 1 or not progress.NAMES[progress.PREDICTED].fullmatch(name):
        raise ValueError(f"predict({name!r}) needs a name like 02.1 and one of within, factor, choices and order")
    question = Question(name, within, factor, unit, low, high, tuple(choices), tuple(order))
    _questions[name] = question
    if not asked():
        return
    if answer is None and any(map(os.environ.get, progress.SHOWN_BY)):
        from IPython.display import display  # imported here because only notebooks have it

        display(form(question))
    elif answer is None:
        print(f"{name}: add answer=..., confidence=70 to this call and run it again, or go on without.")
    else:
        print(keep(question, answer, confidence))


def reveal(name: str, value: Any, *, reference: str | Sequence[Any] = (), source: str = "this run") -> None:
    """Print this run's result, the results of the reference's seeds, and how the learner's prediction compares.

    Args:
        value: the result: a number, one of the choices, or the items in order; None if the run has no result.
        reference: the name of a metric that this lesson records, or one value per seed of a reference.
        source: where `value` is from, if not from this run: "the reference".
    """
    question = _questions.get(name) or Question(name, choices=(str(value),) if isinstance(value, str) else ())
    found, run = question.result(value), runtime.latest()
    if found is None:
        print(f"{name}: this run has no result to compare with.")
        return
    lines = [f"{name}: {source} gives {question.say(found)}."]
    if run is not None and run.budget == "quick" and source == "this run":
        print(f'{lines[0]} The budget "quick" is too short to score a prediction.')
        return
    seeds: Sequence[Any] = ()
    if run is None or run.track == "pocket":
        seeds = recorded(name[:2], reference) if isinstance(reference, str) else reference
    lines += [_over_seeds(question, seeds)] if len(seeds) else []
    fact = earlier(question) if asked() and name in _questions else None
    if fact is not None:
        lines.append(_scored(question, fact, found, seeds))
    _revealed.add(name)
    print("\n".join(lines))


def asked(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether a person watches this run: it runs in a notebook interface or a terminal, and no command started it."""
    chosen = environ.get(progress.VARIABLE, "").strip()
    if environ.get("WORKBOOK_RUN_DIR") or (not chosen and any(map(environ.get, progress.NOBODY))):
        return False
    return any(map(environ.get, progress.SHOWN_BY)) or bool(sys.stdin and sys.stdin.isatty())


def keep(question: Question, given: Any, confidence: Any) -> str:
    """Save an answer unless its result is already known; return a sentence for the learner."""
    before = earlier(question)
    if before is not None and "right" in before:
        return f"{_said(question, before)} That answer was scored, and the first one counts."
    if question.name in _revealed:
        return f"The result of {question.name} is shown already, so a prediction no longer counts."
    try:
        answer, sure = question.read(given), as_number(confidence)
        if sure is None or not 0 <= sure <= 100:
            raise UserError(f"confidence is {confidence!r}, but it has to be a number from 0 to 100.")
    except UserError as problem:
        return str(problem)
    fact = {"answer": answer, "confidence": sure}
    _store(question, fact)
    return f"{_said(question, fact)} You can change it until you run the cell that shows the result."


def _store(question: Question, fact: Mapping[str, Any]) -> None:
    _answers[question.name] = {key: value for key, value in fact.items() if key != "when"}
    progress.keep_prediction(question.name, _answers[question.name])


def earlier(question: Question) -> dict | None:
    """Return the learner's answer to this question, saved or from this session; None if no valid one exists."""
    for fact in (progress.kept(progress.PREDICTED).get(question.name), _answers.get(question.name)):
        try:
            sure = None if fact is None else as_number(fact["confidence"])
            if fact is not None and sure is not None:
                return {**fact, "answer": question.read(fact["answer"]), "confidence": sure}
        except UserError:  # the lesson's question has changed since
            continue
    return None


def calibration() -> list[tuple[float, bool]]:
    """Return the confidence in per cent, and whether it was right, of every scored prediction of this learner."""
    facts = {**_answers, **progress.kept(progress.PREDICTED)}.values() if asked() else ()
    pairs = [(as_number(fact.get("confidence")), fact.get("right")) for fact in facts]
    return [(sure, right) for sure, right in pairs if sure is not None and isinstance(right, bool)]


def form(question: Question) -> widgets.VBox:
    """Return the widget: the answer's controls, the confidence, a button, and a line that shows the saved answer."""
    controls = _controls(question)
    sure = widgets.SelectionSlider(
        options=[(f"{share} %", share) for share in CONFIDENCES], value=50, description="How sure?", style=WIDE
    )
    button = widgets.Button(description="Keep my prediction")
    said = widgets.HTML()
    before = earlier(question)
    rule = f" A number counts as right {question.rule} of the result." if question.rule else ""
    said.value = html.escape(_said(question, before) if before else f"Prediction {question.name}.{rule}")

    def on_click(_button: object) -> None:
        values = [control.value for control in controls]
        said.value = html.escape(keep(question, values if question.order else values[0], sure.value))

    button.on_click(on_click)
    return widgets.VBox([*controls, sure, button, said])


def _controls(question: Question) -> list[Any]:
    if question.choices:
        return [widgets.RadioButtons(options=question.choices, value=None, layout={"width": "max-content"})]
    if question.order:
        places = [f"{place}." for place in range(1, len(question.order) + 1)]
        options = [("choose", ""), *((item, item) for item in question.order)]
        return [widgets.Dropdown(options=options, value="", description=place) for place in places]
    return [widgets.Text(placeholder="a number", description=question.unit or "number", style=WIDE)]


def _said(question: Question, fact: Mapping[str, Any]) -> str:
    return f"You predicted {question.say(fact['answer'])}, {fact['confidence']:g} % sure."


def _scored(question: Question, fact: dict, value: Any, seeds: Sequence[Any]) -> str:
    """Return a sentence that scores the learner's answer; the first score is saved with the answer."""
    right = question.right(fact["answer"], value)
    share = [question.right(fact["answer"], question.result(one)) for one in seeds]
    if "right" not in fact:
        scored = {"value": value, "right": right, "right_in_reference": sum(share), "seeds": len(share)}
        _store(question, {**fact, **scored})
    said = f"{_said(question, fact)} {'Right' if right else 'Not right'}"
    said += "." if right else f": {question.miss(fact['answer'], value)}."
    if share:
        said += f" It holds for {sum(share)} of the reference's {len(share)} seeds."
    if not right and fact["confidence"] >= SURE:
        said += " You were sure: set your reason beside the explanation below."
    return said


def _over_seeds(question: Question, seeds: Sequence[Any]) -> str:
    """Return one line with the results of the reference's seeds."""
    if question.choices or question.order:
        said = [question.say(one) for one in seeds]
        counts = {one: said.count(one) for one in dict.fromkeys(said)}
        return (
            "Reference: " + "; ".join(f"{one} in {count} of {len(said)} seeds" for one, count in counts.items()) + "."
        )
    return f"Reference, {len(seeds)} seeds: {question.span(seeds)}."
