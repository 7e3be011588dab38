"""The exercises of lesson 03: the answer passes, a planted mistake is named, a blank says so."""

from __future__ import annotations

import re

import pytest

from helpers.checks.registry import names, verdict
from helpers.intervals import paired_bootstrap


def fewest(curve, target):
    return min((size for size, accuracy in curve.items() if accuracy >= target), default=None)


def stop(losses, patience, *, first=1, strict=True, late=0):
    best = 0
    for at, loss in enumerate(losses):
        if loss < losses[best] or (not strict and loss == losses[best]):
            best = at
        if at - best >= patience + late:
            return at + first, best + first
    return len(losses) - 1 + first, best + first


def report(first, second, part="test"):
    gap = paired_bootstrap(first[part], second[part])
    if gap.low > 0:
        return "first"
    return "second" if gap.high < 0 else "neither"


def by_decimals(first, second):
    return "first" if first["test"].mean() > second["test"].mean() else "second"


@pytest.mark.parametrize(("name", "answer"), [("03.1", fewest), ("03.2", stop), ("03.3", report)])
def test_the_right_answer_passes(name, answer):
    assert verdict(name, answer).passed, verdict(name, answer).text


def test_every_exercise_is_known():
    assert names("03") == ["03.1", "03.2", "03.3"]


@pytest.mark.parametrize("name", ["03.1", "03.2", "03.3"])
@pytest.mark.parametrize(
    "blank", [..., lambda *_: ..., lambda *_: (..., ...)], ids=["dots", "returns dots", "returns a pair of dots"]
)
def test_a_blank_is_not_attempted(name, blank):
    assert verdict(name, blank).state == "not attempted"


@pytest.mark.parametrize("name", ["03.1", "03.2", "03.3"])
@pytest.mark.parametrize("answer", [3, "text", lambda: 1, lambda *_: 1 / 0, lambda *_: None, lambda *_: (1, 2, 3)])
def test_nonsense_is_wrong_and_raises_nothing(name, answer):
    assert verdict(name, answer).state == "wrong"


@pytest.mark.parametrize(
    ("name", "answer", "said"),
    [
        ("03.1", lambda curve, target: next(size for size in curve if curve[size] >= target), "should be 50"),
        ("03.1", lambda curve, target: min([s for s in curve if curve[s] > target], default=None), "should be 50"),
        ("03.1", lambda curve, target: min([s for s in curve if curve[s] >= target], default=0), "should be None"),
        ("03.2", lambda losses, patience: stop(losses, patience, first=0), "count from 1"),
        ("03.2", lambda losses, patience: stop(losses, patience, late=1), "should be"),
        ("03.2", lambda losses, patience: stop(losses, patience, strict=False), "should be"),
        ("03.2", lambda losses, _: (len(losses), losses.index(min(losses)) + 1), "should be"),
        ("03.3", lambda first, second: report(first, second, "train"), "by heart"),
        ("03.3", by_decimals, "255"),
        ("03.3", lambda *_: "neither", "should say"),
    ],
)
def test_a_planted_mistake_is_named(name, answer, said):
    found = verdict(name, answer)
    assert found.state == "wrong" and re.search(said, found.text), found.text
