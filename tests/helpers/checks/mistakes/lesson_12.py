"""Answers to the exercises of lesson 12: right ones, and mistakes with what the check says to them."""

from __future__ import annotations

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


RIGHT = {"12.1": answer_of, "12.2": paired, "12.3": ranked}


MISTAKES = [
    ("12.1", lambda low, high, threshold: low > threshold, "there are three answers"),
    ("12.1", lambda low, high, threshold: "yes" if low + high > 2 * threshold else "no", "what the middle says"),
    ("12.1", lambda low, high, threshold: None, "is None: is a return missing?"),
    ("12.2", apart, "taken apart and then subtracted"),
    ("12.2", lambda a, b: sum(a) - sum(b), "it should return an interval"),
    ("12.2", lambda a, b: mean_t(a), "the lower end should be"),
    ("12.3", lambda rows: sorted(rows, key=lambda row: -row["accuracy"]), "This is one list"),
    ("12.3", lambda rows: {"500 labels": ["adapter"]}, "the methods of 500 labels should have 2 items"),
    ("12.3", lambda rows: 1, "a dictionary"),
]
