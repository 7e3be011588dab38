"""The exercises of lesson 12: the answer passes, a planted mistake is named, a blank says so."""

from __future__ import annotations

import pytest

from helpers.checks.registry import names, verdict
from helpers.intervals import Interval, mean_t


def answer_of(low, high, threshold):
    return "yes" if low > threshold else "no" if high < threshold else "open"


def paired(a, b):
    return mean_t([one - other for one, other in zip(a, b, strict=True)])


def ranked(rows):
    found = {}
    for row in sorted(rows, key=lambda row: -row["accuracy"]):
        found.setdefault(row["setting"], []).append(row["method"])
    return found


def apart(a, b):
    return Interval(0.04, mean_t(a).low - mean_t(b).high, mean_t(a).high - mean_t(b).low)


ANSWERS = {"12.1": answer_of, "12.2": paired, "12.3": ranked}


@pytest.mark.parametrize(("name", "answer"), ANSWERS.items())
def test_the_right_answer_passes(name, answer):
    assert verdict(name, answer).passed, verdict(name, answer).text


def test_every_exercise_is_known():
    assert names("12") == list(ANSWERS)


@pytest.mark.parametrize("name", list(ANSWERS))
@pytest.mark.parametrize("blank", [..., lambda *_: ...], ids=["dots", "a function that returns dots"])
def test_a_blank_is_not_attempted(name, blank):
    assert verdict(name, blank).state == "not attempted"


@pytest.mark.parametrize(
    ("name", "answer", "said"),
    [
        ("12.1", lambda low, high, threshold: low > threshold, "there are three answers"),
        ("12.1", lambda low, high, threshold: "yes" if low + high > 2 * threshold else "no", "what the middle says"),
        ("12.1", lambda low, high, threshold: None, "is None: is a return missing?"),
        ("12.2", apart, "taken apart and then subtracted"),
        ("12.2", lambda a, b: sum(a) - sum(b), "it should return an interval"),
        ("12.2", lambda a, b: mean_t(a), "the lower end should be"),
        ("12.3", lambda rows: sorted(rows, key=lambda row: -row["accuracy"]), "This is one list"),
        ("12.3", lambda rows: {"500 labels": ["adapter"]}, "the methods of 500 labels should have 2 items"),
        ("12.3", lambda rows: 1, "a dictionary"),
    ],
)
def test_a_planted_mistake_is_named(name, answer, said):
    found = verdict(name, answer)
    assert found.state == "wrong" and said.lower() in found.text.lower(), found.text
